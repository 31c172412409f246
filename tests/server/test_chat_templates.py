"""Chat templates of strangers, and messages in them, as a server's operator and its clients meet both."""

import socket
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest

from engine.text.chat_template import ChatPrompt, ChatTemplate
from support.in_process import InProcess, new_engine
from support.server_process import running_server
from support.tiny_models import write_tiny_llama

USER = {"role": "user", "content": "the inn"}
LAZY = (
    "{% if messages | length == 1 %}{% set ns = namespace(g=range(10)) %}{% for i in range(20000) %}"
    "{% set ns.g = ns.g | batch(1) %}{% endfor %}{{ ns.g | list | length }}"
    "{% else %}{% for m in messages %}{{ m.content }}{% endfor %}{% endif %}"
)
GO = "{{ if .System }}<|system|>{{ .System }}</s>{{ end }}<|user|>{{ .Prompt }}</s>"


def ask(url: str, *messages: Any, **fields: Any) -> httpx.Response:
    body = {"messages": list(messages), "max_tokens": 1, "temperature": 0} | fields
    return httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60)


def n_prompt(url: str, *messages: Any) -> int:
    response = ask(url, *messages)
    assert response.status_code == 200, response.text
    return response.json()["usage"]["prompt_tokens"]


def test_a_template_that_goes_wrong_is_a_400_and_harms_no_other_request(tmp_path: Path) -> None:
    path = write_tiny_llama(tmp_path / "m.gguf", n_layer=1, metadata={"tokenizer.chat_template": LAZY})
    with InProcess(new_engine(path)) as server:
        refused = ask(server.url, USER)
        assert refused.status_code == 400
        assert "the model's chat template went beyond its budget" in refused.json()["error"]["message"]
        deep = b'{"messages":[{"role":"user","content":"x","tool_calls":' + b"[" * 900 + b"]" * 900 + b"}]}"
        answer = httpx.post(f"{server.url}/v1/chat/completions", content=deep)
        assert answer.status_code == 400
        assert "messages.[0] is nested more than 64 deep" in answer.json()["error"]["message"]
        assert ask(server.url, USER, USER).status_code == 200


def test_parts_are_measured_before_any_template_runs(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ChatTemplate, "encode", lambda *_, **__: pytest.fail("the prompt was rendered"))
    parts = [{"type": "text", "text": "</s>" * 1000}] * 100
    function = {"name": "f", "arguments": "x" * 100_000}
    calling = {"role": "assistant", "content": None, "tool_calls": [{"function": function}]}
    with InProcess(new_engine(tiny_model)) as server:
        for messages in ([USER | {"content": parts}], [USER, calling]):
            refused = ask(server.url, *messages)
            assert refused.status_code == 400
            assert refused.json()["error"]["code"] == "context_length_exceeded"


def test_a_client_that_leaves_ends_its_rendering(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, ended = threading.Event(), []

    def prompt(self: Any, messages: Any, *, cancelled: threading.Event, **_: Any) -> ChatPrompt:
        begun.set()
        ended.append(cancelled.wait(20))
        return ChatPrompt("", [1])

    monkeypatch.setattr(ChatTemplate, "prompt", prompt)
    monkeypatch.setattr("server.service.LONG_TEXT", 0)  # a short message's rendering is not worth a look
    with InProcess(new_engine(tiny_model)) as server:
        host, _, port = server.url.removeprefix("http://").partition(":")
        body = b'{"messages": [{"role": "user", "content": "x"}]}'
        with socket.create_connection((host, int(port))) as client:
            head = (
                f"POST /v1/chat/completions HTTP/1.1\r\nhost: {host}\r\ncontent-length: {len(body)}\r\n\r\n"
            )
            client.sendall(head.encode() + body)
            assert begun.wait(20)
    assert ended == [True]


def test_a_template_of_no_use_is_a_note_and_another_can_be_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_tiny_llama(tmp_path / "m.gguf", n_layer=1, metadata={"tokenizer.chat_template": GO})
    with running_server(path) as server:
        assert any("note: tokenizer.chat_template does not compile" in line for line in server.lines)
        plain = n_prompt(server.url, USER)
        assert n_prompt(server.url, USER | {"content": "the inn and the sea"}) > plain
    monkeypatch.setenv("ESPALIER_CHAT_TEMPLATE", "chatml")
    with running_server(path) as server:
        assert not any("chat_template" in line for line in server.lines)
        assert n_prompt(server.url, USER) > plain
