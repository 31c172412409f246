"""What the scripted model answers to clients that try out whether a server can run an agent."""

import json
import re
from typing import Any

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
        told = [{"name": call["name"], "arguments": arguments_for(call, turn)} for call in calls]
        texts = (json.dumps(each, ensure_ascii=False) for each in told)
        return "\n".join(f"<tool_call>\n{text}\n</tool_call>" for text in texts)
    schema = None if tools else schema_in(prompt)
    if schema is not None:
        told = json.dumps(arguments_for({"parameters": schema}, turn))
        return f"```json\n{told}\n```" if "```json" in prompt else told
    if keys := re.search(r"JSON with ['`](\w+)['`] and ['`](\w+)['`] keys", turn):
        return json.dumps(dict.fromkeys(keys.groups(), "words"))
    if "joke" in turn:  # LangChain's suite asks for one by a schema that is not in the prompt
        return '{"setup": "words", "punchline": "words"}'
    return "Hello from the script."


def schema_in(prompt: str) -> dict[str, Any] | None:
    """The first JSON schema of an object that a client wrote into its messages."""
    for match in re.finditer(r"\{", prompt):
        try:
            value, _ = json.JSONDecoder().raw_decode(prompt, match.start())
        except ValueError:
            continue
        if isinstance(value, dict) and isinstance(value.get("properties"), dict):
            return value
    return None


def arguments_for(function: dict[str, Any], turn: str) -> dict[str, Any]:
    properties = function.get("parameters", {}).get("properties", {})
    return {name: value_for(schema, turn) for name, schema in properties.items()}


def value_for(schema: dict[str, Any], turn: str) -> Any:
    """A text is the turn's first word in another script than ours, if it has one."""
    foreign = re.search(r"[^\x00-\u024f\W]+", turn)
    values = {
        "string": foreign[0] if foreign else "Rome",
        "integer": 3,
        "number": 1.5,
        "boolean": True,
        "array": [],
        "object": {},
    }
    return schema["enum"][0] if "enum" in schema else values.get(schema.get("type", "string"), "Rome")
