"""Bodies no client library would send, at both endpoints: each is a small 4xx that says nothing of what was sent."""

from typing import Any

import httpx
import pytest

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


@pytest.mark.parametrize("path", ["chat/completions", "completions"])
@pytest.mark.parametrize("name", BODIES)
def test_a_body_that_is_no_request_is_a_small_4xx(server: ServerProcess, path: str, name: str) -> None:
    headers = {"content-type": "application/json", "x-request-id": "mine"}
    answer = httpx.post(f"{server.url}/v1/{path}", content=BODIES[name], headers=headers, timeout=20)
    assert 400 <= answer.status_code < 500, answer.text[:300]
    assert len(answer.content) < 4096
    assert answer.headers["x-request-id"] == "mine"
    error: dict[str, Any] = answer.json()["error"]
    assert error["type"] == "invalid_request_error"
    for part in (SECRET, "0x7f", "/", "object at"):  # nor a path or an address of the server's
        assert part not in error["message"], error["message"]
