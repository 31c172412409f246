"""The bytes on the wire: streams as the contract has them, and every mistake a small 4xx in OpenAI's shape."""

import json
import re
from typing import Any

import httpx
import pytest

from support.server_process import ServerProcess

GREEDY = {"temperature": 0, "max_tokens": 3, "ignore_eos": True}
USER = {"role": "user", "content": "the inn"}


def stream(
    server: ServerProcess, path: str, body: dict[str, Any]
) -> tuple[httpx.Response, list[dict[str, Any]]]:
    """The answer, and its events but [DONE]; checks the framing."""
    answer = httpx.post(server.url + path, json=body | GREEDY | {"stream": True})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.content.endswith(b"data: [DONE]\n\n")
    assert re.fullmatch(rb"(data: [^\r\n]+\n\n)+", answer.content)
    events = answer.text.split("\n\n")[:-2]
    return answer, [json.loads(event.removeprefix("data: ")) for event in events]


def test_a_chat_stream_is_role_contents_finish_usage_done(server: ServerProcess) -> None:
    body = {"messages": [USER], "stream_options": {"include_usage": True}}
    _, events = stream(server, "/v1/chat/completions", body)
    choices = [event["choices"] for event in events]
    assert choices[0][0]["delta"] == {"role": "assistant", "content": ""}
    assert all(list(c[0]["delta"]) == ["content"] and c[0]["delta"]["content"] for c in choices[1:-2])
    assert choices[-2][0]["delta"] == {}
    assert [c[0]["finish_reason"] for c in choices[:-1]] == [None] * (len(choices) - 2) + ["length"]
    assert choices[-1] == []
    assert [event["usage"] for event in events[:-1]] == [None] * (len(events) - 1)
    assert events[-1]["usage"]["completion_tokens"] == 3
    same = {(e["id"], e["object"], e["created"], e["model"], e["system_fingerprint"]) for e in events}
    assert len(same) == 1
    assert next(iter(same))[1] == "chat.completion.chunk"
    assert events[0]["id"].startswith("chatcmpl-")
    assert re.fullmatch(r"espalier-[^-]+-[0-9a-f]{8}", events[0]["system_fingerprint"])


def test_without_include_usage_there_is_none(server: ServerProcess) -> None:
    _, events = stream(server, "/v1/chat/completions", {"messages": [USER]})
    assert all("usage" not in event for event in events)
    assert events[-1]["choices"][0]["finish_reason"] == "length"


def test_a_completion_stream_is_texts_and_a_finish(server: ServerProcess) -> None:
    _, events = stream(server, "/v1/completions", {"prompt": "the inn"})
    whole = httpx.post(f"{server.url}/v1/completions", json={"prompt": "the inn"} | GREEDY).json()
    texts = [event["choices"][0]["text"] for event in events]
    assert "".join(texts) == whole["choices"][0]["text"]
    assert all(texts[:-1])
    assert texts[-1] == ""
    assert {event["object"] for event in events} == {"text_completion"}


def test_request_ids_are_echoed_if_sane_and_made_if_not(server: ServerProcess) -> None:
    def get(value: str) -> str:
        return httpx.get(f"{server.url}/health", headers={"x-request-id": value}).headers["x-request-id"]

    assert get("abc-1.2:3_X") == "abc-1.2:3_X"
    assert re.fullmatch("[0-9a-f]{32}", get("a b\t<script>"))
    assert re.fullmatch("[0-9a-f]{32}", get("x" * 200))


def assert_refused(answer: httpx.Response, *, secret: str = "") -> dict[str, Any]:
    assert 400 <= answer.status_code < 500, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert len(answer.content) < 4096
    error = answer.json()["error"]
    assert set(error) >= {"message", "type", "param", "code"}
    if secret:
        assert secret not in answer.text
    return error


def chat_body(extra: str) -> bytes:
    return b'{"messages":[{"role":"user","content":"a"}],' + extra.encode("utf-8", "surrogatepass") + b"}"


HOSTILE: list[bytes] = [
    b"", b"null", b"[]", b"1", b'"text"', b"{", b"{}", b"\xff\xfe\x00", b"\x00\x01\x02" * 50, b"\xef\xbb\xbf{}",
    b'{"messages":[]}', b'{"messages":null}', b'{"messages":"hi"}', b'{"messages":[1]}', b'{"messages":[{}]}',
    b'{"messages":[{"role":"","content":"a"}]}', b'{"messages":[{"role":"user","content":5}]}',
    b'{"messages":[{"role":"user","content":[{"type":"image_url"}]}]}',
    b'{"messages":[{"role":"user","content":"\\ud800"}]}', b'{"messages":[{"role":"\\udfff","content":"a"}]}',
    b'{"messages":[{"role":"user","content":"a"}],"messages":[{"role":"user","content":"b"}]}',
    b"[" * 100_000, b'{"a":' * 100_000, b'{"messages":' + b"[" * 50_000 + b"]" * 50_000 + b"}",
    *(chat_body(f'"{name}":{value}') for name in ("temperature", "top_p", "min_p", "frequency_penalty")
      for value in ("NaN", "Infinity", "-Infinity", "1e999", "true", '"1"', "[1]", "-7")),
    *(chat_body(f'"{name}":{value}') for name in ("max_tokens", "max_completion_tokens")
      for value in ("-2", "1.5", "true", '"5"', "1" + "0" * 5000)),
    *(chat_body(f'"seed":{value}') for value in ("1.5", "true", "1" + "0" * 400)),
    *(chat_body(f'"logit_bias":{value}')
      for value in ('{"x":1}', '{"99999":1}', '{"-1":1}', '{"5":1e999}', '[[5]]', '[["a",1]]', '{"5":101}')),
    *(chat_body(f'"stop":{value}') for value in ("[1]", "5", '"\\ud800"', json.dumps(["x"] * 129))),
    chat_body('"stream":1'), chat_body('"stream_options":{"include_usage":true}'), chat_body('"model":7'),
    chat_body('"stream":true,"stream_options":{"include_usage":1}'), chat_body('"top_k":1.5'),
    chat_body('"repetition_penalty":0'), chat_body('"top_k":-2'),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(HOSTILE)))
def test_hostile_bodies_are_small_refusals_that_echo_nothing(server: ServerProcess, number: int) -> None:
    answer = httpx.post(f"{server.url}/v1/chat/completions", content=HOSTILE[number])
    assert_refused(answer)


def test_what_was_sent_is_never_in_the_answer(server: ServerProcess) -> None:
    secret = "SECRET-WORDS"
    for messages in (
        secret,
        [secret],
        [{"role": secret * 6, "content": "x"}],
        [{"role": "user", "content": [{"type": secret}]}],
    ):
        body = {"messages": messages}
        assert_refused(httpx.post(f"{server.url}/v1/chat/completions", json=body), secret=secret)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2", 404),
        ("POST", "/v1/nothing", 404),
        ("GET", "/v1/completions", 405),
        ("DELETE", "/health", 405),
    ],
)
def test_unknown_routes_and_methods_have_the_error_shape(
    server: ServerProcess, method: str, path: str, status: int
) -> None:
    answer = httpx.request(method, server.url + path)
    assert answer.status_code == status
    assert_refused(answer)


@pytest.mark.parametrize("more", [{}, {"echo": True}, {"stream": True}, {"n": 2, "logprobs": 1}])
@pytest.mark.parametrize("prompt", [[10**9], [5, -1], [-(10**9)], [[5], [2**40]], [2**70]])
def test_ids_that_no_token_has_are_a_400(
    server: ServerProcess, prompt: object, more: dict[str, object]
) -> None:
    body = {"prompt": prompt, "max_tokens": 1, **more}
    error = assert_refused(httpx.post(f"{server.url}/v1/completions", json=body))
    assert error["param"] == "prompt"


def test_a_request_that_leaves_no_token_is_a_400(server: ServerProcess) -> None:
    """Known when a token is chosen, not before: a stream has begun by then."""
    body = {"prompt": "a", "max_tokens": 2, "guided_regex": "null", "allowed_token_ids": [0]}
    error = assert_refused(httpx.post(f"{server.url}/v1/completions", json=body))
    assert error["code"] == "nothing_allowed"
    stream = httpx.post(f"{server.url}/v1/completions", json=body | {"stream": True})
    assert '"code":"nothing_allowed"' in stream.text
    assert stream.text.endswith("data: [DONE]\n\n")


def test_a_prompt_that_is_too_long_says_both_numbers(server: ServerProcess) -> None:
    for body in (
        {"prompt": [5] * 600},
        {"prompt": "word " * 200_000},
        {"prompt": [5] * 512, "max_tokens": 1},
    ):
        error = assert_refused(httpx.post(f"{server.url}/v1/completions", json=body))
        assert (error["code"], error["param"]) == ("context_length_exceeded", "prompt")
        assert "maximum context length is 512 tokens" in error["message"]
        assert error["n_ctx"] == 512
        assert error["n_prompt_tokens"] >= 500
    for content in ("word " * 200_000, "word " * 500):
        body = {"messages": [{"role": "user", "content": content}]}
        error = assert_refused(httpx.post(f"{server.url}/v1/chat/completions", json=body))
        assert (error["code"], error["param"]) == ("context_length_exceeded", "messages")
