"""Bodies no client library would send, at every route that takes one: small 4xx that say nothing of what was sent."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from server.app import MODULES
from server.paths import served
from server.schemas.fields import Use
from server.schemas.operations import OPERATIONS
from support.server_process import ServerProcess

SECRET = "SECRET-WORDS"  # in every body; never in an answer


def chat(more: str, content: str = '"a"') -> bytes:
    user = f'{{"role": "user", "content": {content}}}'
    return f'{{"messages": [{user}], "max_tokens": 1, "user": "{SECRET}", {more}}}'.encode()


def message(more: str) -> bytes:
    return f'{{"messages": [{{"role": "user", "content": "{SECRET}", {more}}}], "max_tokens": 1}}'.encode()


def nested(depth: int, opening: str = "[", closing: str = "]", inner: str = "") -> str:
    return opening * depth + inner + closing * depth


OBJECTS = ('{"a":', "}", '"SECRET-WORDS"')
#: What is nested deep enough to end a recursion in the parser, the schema, the template or an answer.
DEEP = {
    "arrays": nested(100_000).encode(),
    "objects": nested(100_000, *OBJECTS).encode(),
    "objects that do not end": (b'{"a":' * 100_000) + SECRET.encode(),
    "messages": b'{"messages":' + nested(50_000).encode() + b"}",
    "content": chat('"n": 1', nested(20_000)),
    **{f"tool calls of {depth}": message(f'"tool_calls": {nested(depth)}') for depth in (500, 900, 30_000)},
    "tool calls as objects": message(f'"tool_calls": {nested(900, *OBJECTS)}'),
    **{
        f"{field} of {depth}": chat(f'"{field}": {nested(depth, *OBJECTS)}')
        for field in ("stop", "logit_bias", "temperature", "tools", "response_format")
        for depth in (900, 30_000)
    },
}
NOT_JSON = {
    "UTF-16": chat('"n": 1').decode().encode("utf-16"),
    "UTF-32": chat('"n": 1').decode().encode("utf-32"),
    "a byte order mark": b"\xef\xbb\xbf" + chat('"n": 1'),
    "Latin-1": chat('"n": 1', '"caf\u00e9"').replace("\u00e9".encode(), b"\xe9"),
    "an overlong slash": chat('"n": 1').replace(b'"a"', b'"\xc0\xaf"'),
    "a surrogate in UTF-8": chat('"n": 1').replace(b'"a"', b'"\xed\xa0\x80"'),
    "past Unicode": chat('"n": 1').replace(b'"a"', b'"\xf4\x90\x80\x80"'),
    "half a character": chat('"n": 1').replace(b'"a"', b'"\xe2\x82"'),
    "NUL in a string": chat('"n": 1').replace(b'"a"', b'"a\x00b"'),
    "a line break in a string": chat('"n": 1').replace(b'"a"', b'"a\nb"'),
    "half an escape": chat('"n": 1').replace(b'"a"', b'"\\u12"'),
    "another escape": chat('"n": 1').replace(b'"a"', b'"\\x41"'),
    "single quotes": chat('"n": 1').replace(b'"', b"'"),
    "a comment": b"/* */ " + chat('"n": 1'),
    "a trailing comma": chat('"n": 1,'),
    "two values": chat('"n": 1') * 2,
    "NaN": chat('"temperature": NaN'),
    "-Infinity": chat('"logit_bias": {"5": -Infinity}'),
    "hexadecimal": chat('"seed": 0x10'),
    "a plus": chat('"seed": +1'),
    "a leading zero": chat('"seed": 01'),
    "5000 digits": chat('"seed": ' + "1" * 5000),
    "an exponent without end": chat('"temperature": 1e' + "9" * 5000),
    "a key twice": chat('"n": 1, "n": 1'),
    "a form": f"messages={SECRET}&model=tiny".encode(),
    "XML": f"<messages>{SECRET}</messages>".encode(),
    "a gzip": b"\x1f\x8b\x08\x00" + SECRET.encode(),
    "a string": f'"{SECRET}"'.encode(),
    "a number": b"1e5",
    "nothing but space": b" \r\n\t" * 100,
}
BODIES = DEEP | NOT_JSON


#: Every route of the application that takes a body.
PATHS = sorted(
    route.path for module in MODULES for route in served(module.router) if "POST" in (route.methods or ())
)
#: One of those that read the same fields.
OF_EACH_BODY = sorted({told.body.name: path for path, told in OPERATIONS.items() if told.body}.values())
#: What no honoured field of any route may be.
HOSTILE = {
    "deep arrays": nested(900),
    "deep objects": nested(900, *OBJECTS),
    "deeper arrays": nested(30_000),
    "many empty lists": f"[{','.join(['[]'] * 5000)}]",
    "half a surrogate pair": f'"\\ud800{SECRET}"',
    "a list of it": f'["\\udfff{SECRET}"]',
    "a number without end": "1e999",
    "a list of it, too": "[1e999]",
    "a long integer": "9" * 4000,
}


def test_the_routes_that_take_a_body_are_found() -> None:
    assert {"/v1/chat/completions", "/v1/completions", "/tokenize", "/v1/embeddings"} <= set(PATHS)
    assert {path for path, told in OPERATIONS.items() if told.body is not None} == set(PATHS)


@pytest.fixture(scope="module")
def client(server: ServerProcess) -> Iterator[httpx.Client]:
    headers = {"content-type": "application/json", "x-request-id": "mine"}
    with httpx.Client(base_url=server.url, headers=headers, timeout=20) as client:
        yield client


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("name", BODIES)
def test_a_body_that_is_no_request_is_a_small_4xx(client: httpx.Client, path: str, name: str) -> None:
    is_small_4xx(client.post(path, content=BODIES[name]))


def is_small_4xx(answer: httpx.Response) -> None:
    assert 400 <= answer.status_code < 500, answer.text[:300]
    assert len(answer.content) < 4096
    assert answer.headers["x-request-id"] == "mine"
    error: dict[str, Any] = answer.json()["error"]
    assert error["type"] == "invalid_request_error"
    for part in (SECRET, "0x7f", "/", "object at"):  # nor a path or an address of the server's
        assert part not in error["message"], error["message"]


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("path", OF_EACH_BODY)
def test_a_hostile_value_of_any_field_is_no_accident(client: httpx.Client, path: str, name: str) -> None:
    """A small 4xx; or an answer, where the value asks for nothing or is cut to what the engine counts."""
    told = OPERATIONS[path].body
    assert told is not None
    for field_name, field in told.fields.items():
        if field.use is Use.HONOURED:
            others = {key: value for key, value in told.example.items() if key not in field.names}
            text = json.dumps({"user": SECRET} | others)
            answer = client.post(path, content=f'{text[:-1]}, "{field_name}": {HOSTILE[name]}}}'.encode())
            if answer.status_code != 200:
                is_small_4xx(answer)
