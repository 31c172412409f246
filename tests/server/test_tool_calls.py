"""Tools over HTTP. A random model calls nothing by itself, so calls are obliged: the grammar chooses with it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import openai
import pytest

from engine.answers.formats import CALL_FORMATS
from support.chat_templates import CHATML
from support.server_process import ServerProcess, running_server
from support.slices import skip_in_slice
from support.tiny_models import write_tiny_llama
from support.vocabularies import CONTROL, USER_DEFINED, bpe_metadata

FAST = "hermes"
SLICE = {FAST, "qwen3_coder", "deepseek"}
WEATHER = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "enum": ["Rome", "São Paulo"]},
        "days": {"type": "integer", "minimum": 1, "maximum": 9},
    },
    "required": ["city"],
    "additionalProperties": False,
}
TOOLS: list[dict[str, Any]] = [
    {
        "type": "function",
        "function": {"name": "get_weather", "description": "Of a city.", "parameters": WEATHER},
    },
    {"type": "function", "function": {"name": "now"}},
]
SCHEMAS = {"get_weather": WEATHER, "now": {"type": "object", "maxProperties": 0}}
USER = [{"role": "user", "content": "Is it warm?"}]
CHAT = "/v1/chat/completions"
#: Opens a thought where nobody turns thinking off, as Qwen3's and DeepSeek's templates do.
THINKS = CHATML + (
    "{% if add_generation_prompt %}{{ '<think>\\n\\n</think>\\n\\n' if enable_thinking is false else '<think>\\n' }}"
    "{% endif %}"
)


def model(folder: Path, template: str) -> Path:
    markers = sorted({text for form in CALL_FORMATS.values() for text in form.shown})
    kinds = [(text, CONTROL if text.startswith(("[", "<｜")) else USER_DEFINED) for text in markers]
    more = [*kinds, ("<think>", USER_DEFINED), ("</think>", USER_DEFINED), ("<|im_end|>", CONTROL)]
    path = folder / "tools.gguf"
    vocabulary = bpe_metadata(more=more)
    return write_tiny_llama(
        path, vocabulary=vocabulary, metadata={"tokenizer.chat_template": template}, n_ctx=2048
    )


@pytest.fixture(
    scope="module",
    params=[FAST, *(pytest.param(name, marks=pytest.mark.slow) for name in CALL_FORMATS if name != FAST)],
)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerProcess]:
    if request.param not in SLICE:
        skip_in_slice()
    path = model(tmp_path_factory.mktemp("models"), CHATML)
    with running_server(path, "--tool-parser", request.param) as running:
        yield running


@pytest.fixture(scope="module")
def thinker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with running_server(model(tmp_path_factory.mktemp("models"), THINKS)) as running:
        yield running


def answer(server: ServerProcess, **fields: Any) -> dict[str, Any]:
    body = {"messages": USER, "temperature": 1, "seed": 1, "max_tokens": 700} | fields
    got = httpx.post(server.url + CHAT, json=body, timeout=60)
    assert got.status_code == 200, got.text
    return got.json()


def refusal(server: ServerProcess, **fields: Any) -> dict[str, Any]:
    got = httpx.post(server.url + CHAT, json={"messages": USER, **fields}, timeout=60)
    assert got.status_code == 400, got.text
    return got.json()["error"]


def check_calls(message: dict[str, Any]) -> list[str]:
    """The names; each call as an SDK and the tool's schema want it."""
    calls = message["tool_calls"]
    for call in calls:
        assert call["type"] == "function"
        jsonschema.validate(json.loads(call["function"]["arguments"]), SCHEMAS[call["function"]["name"]])
    assert len({call["id"] for call in calls}) == len(calls)
    return [call["function"]["name"] for call in calls]


def test_required_tools_are_called_by_their_schemas(server: ServerProcess) -> None:
    names = set()
    for seed in range(4):
        [choice] = answer(server, tools=TOOLS, tool_choice="required", parallel_tool_calls=False, seed=seed)[
            "choices"
        ]
        assert choice["finish_reason"] == "tool_calls"
        assert choice["message"]["content"] is None
        [name] = check_calls(choice["message"])
        names.add(name)
    assert names <= SCHEMAS.keys()


def test_a_named_tool_is_called_and_the_answer_stops(server: ServerProcess) -> None:
    """OpenAI's rule: a call that the client chose is no reason of the model's."""
    choice = {"type": "function", "function": {"name": "get_weather"}}
    [told] = answer(server, tools=TOOLS, tool_choice=choice, parallel_tool_calls=False)["choices"]
    assert check_calls(told["message"]) == ["get_weather"]
    assert told["finish_reason"] == "stop"


def test_of_allowed_tools_no_other_is_called(server: ServerProcess) -> None:
    allowed = {"mode": "required", "tools": [{"type": "function", "function": {"name": "now"}}]}
    choice = {"type": "allowed_tools", "allowed_tools": allowed}
    [told] = answer(server, tools=TOOLS, tool_choice=choice, parallel_tool_calls=False)["choices"]
    assert check_calls(told["message"]) == ["now"]
    assert told["finish_reason"] == "tool_calls"


def test_a_stream_is_the_whole_answer_in_deltas_that_an_sdk_joins(server: ServerProcess) -> None:
    fields = {"tools": TOOLS, "tool_choice": "required", "parallel_tool_calls": False, "seed": 3}
    whole = answer(server, **fields)["choices"][0]
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)
    body: Any = {"messages": USER, "temperature": 1, "max_tokens": 700, **fields}
    with client.chat.completions.stream(model="tools", **body) as stream:
        chunks = [event.chunk for event in stream if event.type == "chunk"]
        final = stream.get_final_completion().choices[0]
    [call] = final.message.tool_calls or []
    [expected] = whole["message"]["tool_calls"]
    assert call.function.name == expected["function"]["name"]
    assert call.function.arguments == expected["function"]["arguments"]
    assert final.finish_reason == whole["finish_reason"] == "tool_calls"
    deltas = [call for chunk in chunks for choice in chunk.choices for call in choice.delta.tool_calls or []]
    assert deltas[0].id
    assert deltas[0].id.startswith("call_")
    assert deltas[0].function
    assert (deltas[0].function.name, deltas[0].function.arguments) == (expected["function"]["name"], "")
    assert all(delta.index == 0 and delta.id is None for delta in deltas[1:])


def test_older_clients_get_a_function_call(server: ServerProcess) -> None:
    functions = [tool["function"] for tool in TOOLS]
    [choice] = answer(server, functions=functions, function_call={"name": "get_weather"})["choices"]
    call = choice["message"]["function_call"]
    jsonschema.validate(json.loads(call["arguments"]), WEATHER)
    assert call["name"] == "get_weather"
    assert "tool_calls" not in choice["message"]


def test_each_of_several_answers_calls_in_its_own_way(server: ServerProcess) -> None:
    choices = answer(server, tools=TOOLS, tool_choice="required", parallel_tool_calls=False, n=3)["choices"]
    assert [choice["index"] for choice in choices] == [0, 1, 2]
    assert all(check_calls(choice["message"]) for choice in choices)
    ids = {call["id"] for choice in choices for call in choice["message"]["tool_calls"]}
    assert len(ids) == 3


def test_log_probabilities_come_with_calls_and_cover_every_token(server: ServerProcess) -> None:
    fields = {"tools": TOOLS, "tool_choice": "required", "parallel_tool_calls": False, "logprobs": True}
    told = answer(server, **fields, top_logprobs=2)
    [choice] = told["choices"]
    entries = choice["logprobs"]["content"]
    # The token that ends an answer is counted nowhere.
    assert len(entries) == told["usage"]["completion_tokens"]
    assert all(len(entry["top_logprobs"]) == 2 for entry in entries)


def test_a_call_that_is_cut_stays_visible(server: ServerProcess) -> None:
    [choice] = answer(server, tools=TOOLS, tool_choice="required", max_tokens=6)["choices"]
    assert choice["finish_reason"] == "length"
    assert "tool_calls" not in choice["message"]
    assert choice["message"]["content"]


def test_with_a_form_an_answer_is_calls_or_that_form(server: ServerProcess) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"enum": [1, 2]}}}
    strict = [{"type": "function", "function": TOOLS[0]["function"] | {"strict": True}}]
    for seed in range(3):
        [choice] = answer(server, tools=strict, response_format=form, seed=seed, parallel_tool_calls=False)[
            "choices"
        ]
        message = choice["message"]
        if message.get("tool_calls"):
            check_calls(message)
        else:
            assert json.loads(message["content"]) in (1, 2)


def test_a_schema_that_nothing_can_be_held_to_is_refused_only_where_it_is_to_be_held(
    server: ServerProcess,
) -> None:
    """Of a number, as texts between tags are held to their types and enums alone."""
    odd = {"type": "object", "properties": {"a": {"type": "integer", "not": {"const": 3}}}}
    tools = [TOOLS[1], {"type": "function", "function": {"name": "odd", "parameters": odd}}]
    error = refusal(server, tools=tools, tool_choice="required")
    assert error["param"].startswith("tools.[1].function.parameters")
    assert error["code"] == "invalid_constraint"
    strict = [{"type": "function", "function": {"name": "odd", "parameters": odd, "strict": True}}]
    assert refusal(server, tools=strict)["param"].startswith("tools.[0].function.parameters")
    assert answer(server, tools=tools, max_tokens=3)["choices"]


def test_calls_in_the_history_come_with_any_template(server: ServerProcess) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "now", "arguments": "{}"}}
    history = [
        *USER,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "noon"},
    ]
    assert answer(server, messages=history, tools=TOOLS, max_tokens=4)["choices"]
    assert answer(server, messages=history, max_tokens=4)["choices"]


def test_ten_megabytes_of_arguments_are_refused_in_a_moment(server: ServerProcess) -> None:
    call = {
        "id": "c",
        "type": "function",
        "function": {"name": "now", "arguments": json.dumps({"a": "x" * (10 << 20)})},
    }
    history = [*USER, {"role": "assistant", "tool_calls": [call]}, {"role": "tool", "content": "noon"}]
    got = httpx.post(server.url + CHAT, json={"messages": history}, timeout=10)
    assert (got.status_code, got.json()["error"]["code"]) == (400, "context_length_exceeded")


def test_a_thought_ends_with_its_budget_and_calls_come_after_it(thinker: ServerProcess) -> None:
    fields = {"tools": TOOLS, "tool_choice": "required", "parallel_tool_calls": False, "thinking_budget": 8}
    told = answer(thinker, **fields)
    [choice] = told["choices"]
    assert check_calls(choice["message"])
    assert choice["message"]["reasoning_content"] == choice["message"]["reasoning"]
    # Eight tokens, and the one that ends the thought.
    assert told["usage"]["completion_tokens_details"]["reasoning_tokens"] == 9


@pytest.mark.parametrize("streamed", [False, True])
def test_a_form_begins_after_the_thought(thinker: ServerProcess, streamed: bool) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": WEATHER}}
    fields: dict[str, Any] = {"response_format": form, "reasoning": {"max_tokens": 5}}
    if not streamed:
        message = answer(thinker, **fields)["choices"][0]["message"]
        thought, content = message["reasoning"], message["content"]
    else:
        body = {"messages": USER, "temperature": 1, "seed": 1, "max_tokens": 700, "stream": True, **fields}
        lines = httpx.post(thinker.url + CHAT, json=body, timeout=60).text.split("\n\n")[:-2]
        deltas = [json.loads(line.removeprefix("data: "))["choices"][0]["delta"] for line in lines]
        thought = "".join(delta.get("reasoning_content", "") for delta in deltas)
        content = "".join(delta.get("content", "") for delta in deltas)
    assert thought
    jsonschema.validate(json.loads(content), WEATHER)


def test_thoughts_are_told_apart_in_the_content_or_not_at_all(thinker: ServerProcess) -> None:
    fields: dict[str, Any] = {"thinking_budget": 6, "max_tokens": 20}
    apart = answer(thinker, **fields)["choices"][0]["message"]
    inline = answer(thinker, **fields, reasoning_format="none")["choices"][0]["message"]
    hidden = answer(thinker, **fields, include_reasoning=False)["choices"][0]["message"]
    assert apart["reasoning"] in inline["content"]
    assert "</think>" in inline["content"]
    assert "reasoning" not in hidden
    assert hidden["content"] == apart["content"]
    assert inline["content"].endswith(apart["content"])


def test_without_thinking_there_is_no_thought(thinker: ServerProcess) -> None:
    for off in ({"reasoning_effort": "none"}, {"chat_template_kwargs": {"enable_thinking": False}}):
        told = answer(thinker, **off, max_tokens=5)
        assert "reasoning" not in told["choices"][0]["message"]
        assert told["usage"]["completion_tokens_details"]["reasoning_tokens"] == 0


def test_a_thought_that_is_cut_is_all_there_is(thinker: ServerProcess) -> None:
    told = answer(thinker, max_tokens=5, reasoning_effort="high")
    [choice] = told["choices"]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("", "length")
    assert told["usage"]["completion_tokens_details"]["reasoning_tokens"] == 5
