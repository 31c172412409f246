"""The official SDK, sync and async, as people use it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from support.server_process import ServerProcess, running_server

CHAT: Any = [{"role": "user", "content": "Tell me of the inn."}]
PLAIN: dict[str, Any] = {"model": "tiny", "max_tokens": 12, "seed": 5, "extra_body": {"ignore_eos": True}}


@pytest.fixture(scope="module")
def client(server: ServerProcess) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)


@pytest.fixture
def aclient(server: ServerProcess) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)


def test_chat_streamed_and_whole_are_one_text(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(messages=CHAT, **PLAIN)
    chunks = list(client.chat.completions.create(messages=CHAT, stream=True, **PLAIN))
    assert whole.choices[0].finish_reason == chunks[-1].choices[0].finish_reason == "length"
    assert whole.choices[0].message.content == "".join(c.choices[0].delta.content or "" for c in chunks)
    assert chunks[0].choices[0].delta.role == "assistant"
    assert whole.usage is not None
    assert whole.usage.completion_tokens == 12
    assert whole.usage.prompt_tokens_details is not None
    assert whole.usage.prompt_tokens_details.cached_tokens == 0
    assert len({(c.id, c.created, c.model) for c in chunks}) == 1


async def test_the_async_client_gets_the_same(client: openai.OpenAI, aclient: openai.AsyncOpenAI) -> None:
    whole = client.chat.completions.create(messages=CHAT, **PLAIN)
    stream = await aclient.chat.completions.create(
        messages=CHAT, stream=True, stream_options={"include_usage": True}, **PLAIN
    )
    chunks = [chunk async for chunk in stream]
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-1].choices == []
    assert chunks[-1].usage == whole.usage
    other = await aclient.completions.create(prompt="the inn", **PLAIN)
    assert other.usage is not None
    assert other.usage.completion_tokens == 12


def test_completions_take_text_ids_and_lists(client: openai.OpenAI) -> None:
    prompts: list[Any] = ["the inn", [1, 300, 301], ["the inn", "Hello"], [[1, 300], [1, 301, 302]]]
    counts = [len(client.completions.create(prompt=p, **PLAIN).choices) for p in prompts]
    assert counts == [1, 1, 2, 2]
    both = client.completions.create(prompt=["the inn", "Hello"], **PLAIN)
    alone = client.completions.create(prompt="Hello", **PLAIN)
    assert both.choices[1].text == alone.choices[0].text
    streamed = ["", ""]
    for chunk in client.completions.create(prompt=["the inn", "Hello"], stream=True, **PLAIN):
        streamed[chunk.choices[0].index] += chunk.choices[0].text
    assert streamed == [choice.text for choice in both.choices]


def test_sixteen_tokens_are_the_default_of_completions(client: openai.OpenAI) -> None:
    done = client.completions.create(model="tiny", prompt="the", extra_body={"ignore_eos": True})
    assert done.usage is not None
    assert done.usage.completion_tokens == 16


def test_a_stop_string_ends_the_text_before_it(client: openai.OpenAI) -> None:
    text = client.completions.create(prompt="the inn", **PLAIN).choices[0].text
    stop = text[4:7]
    cut = client.completions.create(prompt="the inn", stop=[stop], **PLAIN)
    assert cut.choices[0].text == text[: text.index(stop)]
    assert cut.choices[0].finish_reason == "stop"


def test_seeds_repeat_and_differ(client: openai.OpenAI) -> None:
    texts = [
        client.completions.create(prompt="a", **(PLAIN | {"seed": s})).choices[0].text for s in (1, 1, 2)
    ]
    assert texts[0] == texts[1] != texts[2]


def test_models(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["tiny"]
    assert client.models.retrieve("tiny").model_dump()["max_model_len"] == 512
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("other")


def test_wrong_requests_raise_the_right_classes(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as unknown:
        client.chat.completions.create(model="other", messages=CHAT)
    assert unknown.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as hot:
        client.chat.completions.create(model="tiny", messages=CHAT, temperature=-1)
    assert hot.value.param == "temperature"
    with pytest.raises(openai.BadRequestError) as long:
        client.completions.create(model="tiny", prompt=[5] * 600, stream=True)
    assert long.value.code == "context_length_exceeded"
    with pytest.raises(openai.BadRequestError) as two:
        client.chat.completions.create(model="tiny", messages=CHAT, n=200)
    assert two.value.param == "n"
    with pytest.raises(openai.APIStatusError) as large:
        client.completions.create(model="tiny", prompt="a" * (17 << 20))
    assert large.value.status_code == 413


@pytest.fixture(scope="module")
def guarded(tiny_model: Path) -> Iterator[ServerProcess]:
    with running_server(tiny_model, "--api-key", "secret", "--alias", "mine") as running:
        yield running


def test_a_key_guards_every_route_but_the_probes(guarded: ServerProcess) -> None:
    import httpx

    for path in ("/v1/models", "/v1/chat/completions", "/docs", "/nowhere"):
        answer = httpx.get(guarded.url + path)
        assert answer.status_code == 401
        assert answer.json()["error"]["code"] == "invalid_api_key"
        assert "www-authenticate" in answer.headers
    assert httpx.get(guarded.url + "/health").status_code == 200
    assert httpx.get(guarded.url + "/ready").status_code == 200
    wrong = openai.OpenAI(base_url=f"{guarded.url}/v1", api_key="secre", max_retries=0)
    with pytest.raises(openai.AuthenticationError):
        wrong.models.list()
    right = openai.OpenAI(base_url=f"{guarded.url}/v1", api_key="secret", max_retries=0)
    assert right.chat.completions.create(messages=CHAT, **(PLAIN | {"model": "mine"})).model == "mine"
