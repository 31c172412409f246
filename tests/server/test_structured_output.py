"""Answers that must have a form, asked for in every dialect, on both routes, whole and streamed."""

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import jsonschema
import pytest

from server.errors import ApiError
from server.schemas.chat import chat_request
from support.chat_templates import CHATML
from support.server_process import ServerProcess, running_server
from support.tiny_models import write_tiny_llama
from support.vocabularies import bpe_metadata

COLOUR = {
    "type": "object",
    "properties": {
        "colour": {"enum": ["red", "blue"]},
        "n": {"type": "integer", "minimum": 0, "maximum": 99},
    },
    "required": ["colour", "n"],
    "additionalProperties": False,
}
NAMED = {"name": "colour", "strict": True, "schema": COLOUR}
MESSAGES = [{"role": "user", "content": "Which colour?"}]
TEMPERATURE = {"temperature": 1, "max_tokens": 200}
CHAT, TEXT = "/v1/chat/completions", "/v1/completions"


@pytest.fixture(scope="module", params=["spm", "bpe"])
def server(
    request: pytest.FixtureRequest, tiny_model: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerProcess]:
    path = tiny_model
    if request.param == "bpe":
        path = tmp_path_factory.mktemp("models") / "bpe.gguf"
        write_tiny_llama(path, vocabulary=bpe_metadata(), metadata={"tokenizer.chat_template": CHATML})
    with running_server(path) as running:
        yield running


def body(route: str, **fields: Any) -> dict[str, Any]:
    asked = {"messages": MESSAGES} if route == CHAT else {"prompt": "Colour:"}
    return TEMPERATURE | asked | fields


def answers(server: ServerProcess, route: str, **fields: Any) -> list[str]:
    """The texts of all choices."""
    answer = httpx.post(server.url + route, json=body(route, **fields), timeout=60)
    assert answer.status_code == 200, answer.text
    choices = answer.json()["choices"]
    assert {choice["finish_reason"] for choice in choices} == {"stop"}
    return [choice["message"]["content"] if route == CHAT else choice["text"] for choice in choices]


def streamed(server: ServerProcess, route: str, **fields: Any) -> str:
    sent = body(route, stream=True, **fields)
    with httpx.stream("POST", server.url + route, json=sent, timeout=60) as answer:
        assert answer.status_code == 200
        lines = [line[6:] for line in answer.iter_lines() if line.startswith("data: {")]
    choices = [choice for line in lines for choice in json.loads(line)["choices"]]
    parts = [choice["delta"].get("content") if route == CHAT else choice["text"] for choice in choices]
    return "".join(part or "" for part in parts)


SCHEMA_FIELDS: list[dict[str, Any]] = [
    {"response_format": {"type": "json_schema", "json_schema": NAMED}},
    {"response_format": {"type": "json_schema", "json_schema": NAMED | {"strict": False}}},
    {"response_format": {"type": "json_schema", "schema": COLOUR}},
    {"response_format": {"type": "json_object", "schema": COLOUR}},
    {"structured_outputs": {"json": COLOUR}},
    {"guided_json": json.dumps(COLOUR)},
    {"json_schema": COLOUR},
    {"format": COLOUR},
]


@pytest.mark.parametrize("route", [CHAT, TEXT])
@pytest.mark.parametrize("fields", SCHEMA_FIELDS, ids=lambda fields: next(iter(fields)))
def test_every_spelling_of_a_schema_is_held(
    server: ServerProcess, route: str, fields: dict[str, Any]
) -> None:
    for text in answers(server, route, n=3, **fields):
        jsonschema.validate(json.loads(text), COLOUR)


@pytest.mark.parametrize("route", [CHAT, TEXT])
@pytest.mark.parametrize(
    ("fields", "pattern"),
    [
        ({"guided_regex": "[ab]{3}"}, "[ab]{3}"),
        ({"regex": r"\d\d-\d"}, "[0-9]{2}-[0-9]"),
        ({"structured_outputs": {"regex": "(yes|no)!"}}, "(yes|no)!"),
        ({"response_format": {"type": "regex", "value": "x+y"}}, "x+y"),
        ({"guided_choice": ["red", "green"]}, "red|green"),
        ({"structured_outputs": {"choice": ["é", "本"]}}, "é|本"),
        ({"grammar": 'root ::= "a" ("b" | "c"){2}'}, "a[bc]{2}"),
        ({"ebnf": 'root ::= "x"'}, "x"),
        ({"guided_grammar": 'start: "a" /[0-9]{2}/'}, "a[0-9]{2}"),
        ({"grammar": {"type": "regex", "value": "[xy]"}}, "[xy]"),
    ],
)
def test_patterns_choices_and_grammars_are_held(
    server: ServerProcess, route: str, fields: dict[str, Any], pattern: str
) -> None:
    for text in answers(server, route, n=2, **fields):
        assert re.fullmatch(pattern, text), text


@pytest.mark.parametrize("route", [CHAT, TEXT])
def test_a_json_object_comes_as_one(server: ServerProcess, route: str) -> None:
    """A random model writes long objects: what has come is the beginning of one."""
    sent = body(route, response_format={"type": "json_object"}, max_tokens=30, logit_bias={})
    answer = httpx.post(server.url + route, json=sent, timeout=60).json()["choices"][0]
    text = answer["message"]["content"] if route == CHAT else answer["text"]
    assert text.startswith("{")
    if answer["finish_reason"] == "stop":
        assert isinstance(json.loads(text), dict)


@pytest.mark.parametrize("route", [CHAT, TEXT])
@pytest.mark.parametrize(
    "more",
    [
        {"top_k": 1, "temperature": 0},
        {"top_p": 0.3, "min_p": 0.1},
        {"repetition_penalty": 1.5, "frequency_penalty": 1, "presence_penalty": 1},
        {"min_tokens": 150},
        {"ignore_eos": True},
        {"bad_words": ["green"]},
    ],
    ids=str,
)
def test_a_form_holds_with_every_sampler(server: ServerProcess, route: str, more: dict[str, Any]) -> None:
    """Where nothing can follow, the answer ends, whatever length was asked for."""
    for text in answers(server, route, json_schema=COLOUR, **more):
        jsonschema.validate(json.loads(text), COLOUR)


@pytest.mark.parametrize("route", [CHAT, TEXT])
def test_a_stream_has_the_same_text_as_the_whole(server: ServerProcess, route: str) -> None:
    fields = {"json_schema": COLOUR, "seed": 7}
    assert [streamed(server, route, **fields)] == answers(server, route, **fields)


def test_log_probabilities_come_with_a_form(server: ServerProcess) -> None:
    sent = body(CHAT, guided_choice=["red", "blue"], logprobs=True, top_logprobs=3)
    choice = httpx.post(server.url + CHAT, json=sent, timeout=60).json()["choices"][0]
    assert "".join(entry["token"] for entry in choice["logprobs"]["content"]) == choice["message"]["content"]


def test_a_stop_string_ends_a_form(server: ServerProcess) -> None:
    text = answers(server, CHAT, regex="abcdef", stop=["d"])[0]
    assert text == "abc"


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(depth):
        schema = {"oneOf": [schema, {"type": "object", "properties": {"a": schema}}]}
    return schema


CYCLE = {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}
#: Twelve, as R5 has it, and where each is refused.
BOMBS: list[tuple[dict[str, Any], str]] = [
    ({"json_schema": nested(11)}, "json_schema"),
    ({"json_schema": CYCLE}, "json_schema.$ref"),
    (
        {"json_schema": {"properties": {"a": {"pattern": "(" * 60_000 + ")" * 60_000}}}},
        "json_schema.properties.a.pattern",
    ),
    ({"regex": "(a)" * 60_000}, "regex"),
    ({"regex": "a{0,100000}"}, "regex"),
    ({"json_schema": {"enum": [f"v{i}" for i in range(100_000)]}}, "json_schema.enum"),
    (
        {"json_schema": {"allOf": [{"type": "string", "pattern": f"a{{{i}}}"} for i in range(1, 60)]}},
        "json_schema.allOf",
    ),
    ({"json_schema": {"type": "integer", "multipleOf": 1000003}}, "json_schema.multipleOf"),
    ({"json_schema": {"properties": {f"p{i}": {"type": "string"} for i in range(6000)}}}, "json_schema"),
    ({"guided_choice": [f"v{i}" for i in range(100_000)]}, "guided_choice"),
    (
        {
            "grammar": "root ::= r0\n"
            + "\n".join(f"r{i} ::= r{i + 1} r{i + 1}" for i in range(900))
            + '\nr900 ::= "a"'
        },
        "grammar",
    ),
    ({"grammar": 'start: start "a"'}, "grammar"),
]


def test_twelve_bombs_at_once_are_refused_in_two_seconds_by_name(server: ServerProcess) -> None:
    def refused(bomb: tuple[dict[str, Any], str]) -> tuple[int, str, float]:
        answer = httpx.post(server.url + CHAT, json=body(CHAT, **bomb[0]), timeout=60)
        error = answer.json()["error"]
        assert len(answer.content) < 4096
        return answer.status_code, error["param"], answer.elapsed.total_seconds()

    with ThreadPoolExecutor(len(BOMBS)) as pool:
        found = list(pool.map(refused, BOMBS))
    assert [(status, param) for status, param, _ in found] == [(400, param) for _, param in BOMBS]
    assert max(seconds for _, _, seconds in found) < 4  # 2 on a machine that has nothing else to do
    assert answers(server, CHAT, guided_choice=["well"]) == ["well"]


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"response_format": {"type": "yaml"}}, "response_format.type"),
    ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
    (
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}},
        "response_format.json_schema.schema",
    ),
    (
        {"response_format": {"type": "json_schema", "json_schema": NAMED | {"strict": 1}}},
        "response_format.json_schema.strict",
    ),
    ({"response_format": "json"}, "response_format"),
    ({"structured_outputs": {"json": COLOUR, "regex": "a"}}, "structured_outputs"),
    ({"structured_outputs": {"jsn": COLOUR}}, "structured_outputs"),
    (
        {"structured_outputs": {"json": COLOUR, "whitespace_pattern": " "}},
        "structured_outputs.whitespace_pattern",
    ),
    ({"guided_choice": [1]}, "guided_choice"),
    ({"guided_choice": {}, "format": "xml"}, "format"),
    ({"guided_json": "{"}, "guided_json"),
    ({"guided_json": '{"a": 1, "a": 2}'}, "guided_json"),
    ({"regex": 5}, "regex"),
    ({"guided_regex": "a", "json_schema": COLOUR}, "guided_regex"),
    ({"structural_tag": "{}x"}, "structural_tag"),
    ({"grammar": {"type": "tree"}}, "grammar.type"),
    ({"grammar_lazy": True}, "grammar_lazy"),
    ({"guided_whitespace_pattern": " "}, "guided_whitespace_pattern"),
]


@pytest.mark.parametrize(("fields", "param"), REFUSED, ids=str)
def test_a_form_that_is_written_wrong_is_refused_by_the_fields_name(
    fields: dict[str, Any], param: str
) -> None:
    with pytest.raises(ApiError) as caught:
        chat_request({"messages": MESSAGES, **fields})
    found = caught.value
    assert (found.status, found.param) == (400, param)


def test_the_same_form_twice_is_one() -> None:
    asked = chat_request(
        {"messages": MESSAGES, "guided_json": COLOUR, "format": json.loads(json.dumps(COLOUR))}
    )
    assert asked.constraint is not None
    assert asked.constraint.value == COLOUR
