"""A live server whose model follows a script: it calls the tools that it is given, then says what they gave."""

import json
import re
from collections.abc import Iterator

import pytest

from support.in_process import InProcess
from support.scripted_model import scripted_engine

_TOOL = re.compile(r'\{"type": "function", "function": .*\}')
_RESULT = re.compile(r"<\|im_start\|>tool\n(.*?)<\|im_end\|>", re.DOTALL)


def script(prompt: str) -> str:
    """Results are told; else the first tool is called with an argument of each type; else a greeting."""
    turn = prompt.rpartition("<|im_start|>user\n")[2]
    results = _RESULT.findall(turn)
    if results:
        return f"It says: {'; '.join(result.strip() for result in results)}."
    tools = [json.loads(line) for line in _TOOL.findall(prompt)]
    if tools and "no tools" not in turn:
        calls = [tool["function"] for tool in tools][: 2 if "both" in turn else 1]
        return "\n".join(
            f"<tool_call>\n{json.dumps({'name': call['name'], 'arguments': arguments_for(call)})}\n</tool_call>"
            for call in calls
        )
    return "Hello from the script."


def arguments_for(function: dict) -> dict:
    values = {"string": "Rome", "integer": 3, "number": 1.5, "boolean": True, "array": [], "object": {}}
    properties = function.get("parameters", {}).get("properties", {})
    return {name: values.get(schema.get("type", "string"), "Rome") for name, schema in properties.items()}


@pytest.fixture(scope="module")
def live() -> Iterator[InProcess]:
    with InProcess(scripted_engine(script)) as server:
        yield server


@pytest.fixture(scope="module")
def base_url(live: InProcess) -> str:
    return f"{live.url}/v1"
