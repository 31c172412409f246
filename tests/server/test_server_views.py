"""What a server tells of itself: its model under every name, and llama.cpp's /props and /slots."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from engine import SamplingParams
from support.in_process import InProcess, new_engine
from support.server_process import ServerProcess, running_server

LONG = {"prompt": "the", "max_tokens": 400, "ignore_eos": True, "stream": True}


@pytest.fixture(scope="module")
def named(tiny_model: Path) -> Iterator[ServerProcess]:
    with running_server(tiny_model, "--alias", "first,org/second", "--alias", "third") as running:
        yield running


@pytest.fixture(scope="module")
def small(tiny_model: Path) -> Iterator[InProcess]:
    """Two requests at a time."""
    with InProcess(new_engine(tiny_model, max_batch=2)) as running:
        yield running


def test_each_alias_is_an_entry_and_a_name_that_is_answered_and_echoed(named: ServerProcess) -> None:
    entries = httpx.get(named.url + "/v1/models").json()["data"]
    assert [entry["id"] for entry in entries] == ["first", "org/second", "third"]
    names = {"first": "first", "org/second": "org/second", "openai/third": "third", "third:latest": "third"}
    for asked, echoed in names.items():
        body = {"model": asked, "prompt": "a", "max_tokens": 1}
        answer = httpx.post(named.url + "/v1/completions", json=body)
        assert answer.json()["model"] == echoed
        assert httpx.get(f"{named.url}/v1/models/{asked}").json()["id"] == echoed
    assert httpx.post(named.url + "/v1/completions", json={"prompt": "a"}).json()["model"] == "first"
    answer = httpx.post(named.url + "/v1/completions", json={"prompt": "a", "model": "second"})
    assert answer.status_code == 404
    assert "first, org/second, third" in answer.json()["error"]["message"]
    assert any(line.startswith("first: ") for line in named.lines)


def test_an_entry_says_how_long_a_request_may_be_and_what_the_model_is(server: ServerProcess) -> None:
    entry = httpx.get(server.url + "/v1/models").json()["data"][0]
    assert entry["max_model_len"] == entry["context_length"] == entry["meta"]["n_ctx_train"] == 512
    assert entry["meta"]["n_params"] > entry["meta"]["n_vocab"] * entry["meta"]["n_embd"] > 0
    assert 0 < entry["meta"]["size"] < 4 * entry["meta"]["n_params"]
    assert "completion" in entry["capabilities"]


@pytest.mark.slow
def test_capabilities_are_those_of_the_template_and_of_the_flags(tiny_model: Path, tmp_path: Path) -> None:
    template = tmp_path / "thinks.jinja"
    template.write_text("{% for m in messages %}{{ m.content }}{% endfor %}<think></think>")
    flags = ("--chat-template", str(template))
    with running_server(tiny_model, *flags) as thinks:
        assert "thinking" in httpx.get(thinks.url + "/v1/models").json()["data"][0]["capabilities"]
    with running_server(tiny_model, *flags, "--reasoning-parser", "none", "--tool-parser", "none") as plain:
        found = httpx.get(plain.url + "/v1/models").json()["data"][0]["capabilities"]
        assert found == ["completion", "embedding"]


def test_props_tells_the_defaults_and_no_path(server: ServerProcess, tiny_model: Path) -> None:
    answer = httpx.get(server.url + "/props")
    props: dict[str, Any] = answer.json()
    settings = props["default_generation_settings"]
    assert settings["n_ctx"] == 512
    assert settings["params"]["temperature"] == SamplingParams().temperature
    assert props["total_slots"] == len(httpx.get(server.url + "/slots").json())
    assert "messages" in props["chat_template"]
    assert (props["bos_token"], props["eos_token"]) == ("<s>", "</s>")
    assert str(tiny_model.parent) not in answer.text
    assert props["model_path"] == props["model_alias"] == tiny_model.stem
    assert httpx.post(server.url + "/props", json={}).status_code == 405


def test_slots_that_are_busy_are_requests_that_run(small: InProcess) -> None:
    def n_busy() -> int:
        return sum(slot["is_processing"] for slot in httpx.get(small.url + "/slots").json())

    assert n_busy() == 0
    url = small.url + "/v1/completions"
    with httpx.stream("POST", url, json=LONG) as one:
        first = one.iter_lines()  # a stream without its reader is closed
        next(first)
        assert n_busy() == 1
        assert httpx.get(small.url + "/slots?fail_on_no_slot=1").status_code == 200
        with httpx.stream("POST", url, json=LONG) as two:
            second = two.iter_lines()
            next(second)
            assert n_busy() == 2
            assert httpx.get(small.url + "/slots?fail_on_no_slot=0").status_code == 200
            full = httpx.get(small.url + "/slots?fail_on_no_slot=1")
            assert (full.status_code, full.headers["retry-after"]) == (503, "1")
    small.assert_empty_soon()
