"""However a request ends, nothing of it stays: leaving clients, draining servers, failing engines."""

import asyncio
import json
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from support.in_process import InProcess, new_engine
from support.raw_http import answer_to
from support.server_process import running_server

LONG = {"prompt": "the inn", "max_tokens": 450, "ignore_eos": True, "seed": 3}


@pytest.fixture(scope="module")
def running(tiny_model: Path) -> Iterator[InProcess]:
    with InProcess(new_engine(tiny_model)) as server:
        yield server


async def read_stream(
    url: str, body: dict[str, Any], leave_after: int | None, started: asyncio.Event | None = None
) -> str | None:
    """The text of a completion stream; None after leaving at that many events. started is set with its head."""
    text, n = "", 0
    async with (
        httpx.AsyncClient(timeout=60) as client,
        client.stream("POST", f"{url}/v1/completions", json=body | {"stream": True}) as answer,
    ):
        assert answer.status_code == 200
        if started is not None:
            started.set()
        async for line in answer.aiter_lines():
            if line == "data: [DONE]":
                return text
            if line.startswith("data: "):
                event = json.loads(line[6:])
                assert "error" not in event, event
                text, n = text + event["choices"][0]["text"], n + 1
            if n == leave_after:
                return None
    raise AssertionError("the stream ended without [DONE]")


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
async def test_sixteen_streams_with_random_leavers_leave_no_block_behind(
    running: InProcess, seed: int
) -> None:
    rng = random.Random(seed)
    bodies = [LONG | {"seed": i, "max_tokens": rng.randint(20, 200)} for i in range(16)]
    leavers = [rng.choice([None, None, rng.randint(1, 40)]) for _ in bodies]
    together = await asyncio.gather(
        *(read_stream(running.url, b, n) for b, n in zip(bodies, leavers, strict=True))
    )
    await asyncio.to_thread(running.assert_empty_soon)
    for body, text in zip(bodies, together, strict=True):
        if text is not None:
            assert await read_stream(running.url, body, None) == text  # the same alone


async def test_a_streaming_client_that_leaves_ends_its_request(running: InProcess) -> None:
    assert await read_stream(running.url, LONG, leave_after=3) is None
    await asyncio.to_thread(running.assert_empty_soon)


async def test_a_waiting_client_that_leaves_ends_its_request(running: InProcess) -> None:
    async with httpx.AsyncClient() as client:
        with pytest.raises(httpx.TimeoutException):
            await client.post(f"{running.url}/v1/completions", json=LONG, timeout=0.15)
    await asyncio.to_thread(running.assert_empty_soon)


async def test_a_client_that_leaves_while_it_waits_is_forgotten(tiny_model: Path) -> None:
    with InProcess(new_engine(tiny_model, max_batch=1)) as server:
        first = asyncio.create_task(read_stream(server.url, LONG, None))
        await asyncio.sleep(0.05)
        async with httpx.AsyncClient() as client:
            with pytest.raises(httpx.TimeoutException):
                await client.post(f"{server.url}/v1/completions", json=LONG, timeout=0.1)
        assert await first
        await asyncio.to_thread(server.assert_empty_soon)


async def test_a_full_queue_is_503_with_a_time_to_come_back(tiny_model: Path) -> None:
    with InProcess(new_engine(tiny_model, max_batch=1, max_queue=1)) as server:
        streams = [asyncio.create_task(read_stream(server.url, LONG, None))]
        await asyncio.sleep(0.1)
        streams.append(asyncio.create_task(read_stream(server.url, LONG, None)))
        await asyncio.sleep(0.1)
        async with httpx.AsyncClient() as client:
            answer = await client.post(f"{server.url}/v1/completions", json=LONG)
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "server_overloaded"
        assert int(answer.headers["retry-after"]) >= 1
        assert all(await asyncio.gather(*streams))


async def test_sigterm_lets_streams_finish(tiny_model: Path) -> None:
    with running_server(tiny_model) as server:
        started = [asyncio.Event() for _ in range(4)]
        bodies = [LONG | {"seed": i} for i in range(4)]
        streams = [
            asyncio.create_task(read_stream(server.url, body, None, event))
            for body, event in zip(bodies, started, strict=True)
        ]
        await asyncio.wait_for(asyncio.gather(*(event.wait() for event in started)), 30)
        server.terminate()
        await asyncio.sleep(0.1)
        with pytest.raises(httpx.HTTPError):
            async with httpx.AsyncClient() as client:
                (await client.get(f"{server.url}/ready")).raise_for_status()
        texts = await asyncio.gather(*streams)
        assert all(texts)
        assert await asyncio.to_thread(server.wait) == 0


async def answer_to_post(client: httpx.AsyncClient, url: str, body: Any) -> httpx.Response | None:
    """None for one who came too late: nobody listens, or the listener went before it was asked in. An answer that has
    begun must end."""
    try:
        answer = await client.send(client.build_request("POST", url, json=body), stream=True)
    except httpx.TransportError:
        return None
    await answer.aread()
    return answer


@pytest.mark.parametrize("seconds", [0.05, 0.1, 0.5])
async def test_a_drain_that_takes_too_long_tells_the_streams(tiny_model: Path, seconds: float) -> None:
    """Sixty at once, so that they are in every stage of their way in when the drain begins and ends."""
    with running_server(tiny_model, "--drain-seconds", "2", "--max-batch", "1") as server:
        bodies = [LONG | {"seed": i, "stream": True} for i in range(60)]
        async with httpx.AsyncClient(timeout=30, limits=httpx.Limits(max_connections=100)) as client:
            url = f"{server.url}/v1/completions"
            posts = [asyncio.create_task(answer_to_post(client, url, body)) for body in bodies]
            await asyncio.sleep(seconds)
            server.terminate()
            answers = [answer for answer in await asyncio.gather(*posts) if answer is not None]
        streams = [answer.text for answer in answers if answer.status_code == 200]
        assert {answer.status_code for answer in answers} <= {200, 503}
        assert all(text.endswith("data: [DONE]\n\n") for text in streams)
        assert seconds < 0.5 or any('"error"' in text for text in streams)
        assert await asyncio.to_thread(server.wait) == 0


def test_a_request_that_arrives_behind_the_end_of_a_drain_is_503(tiny_model: Path) -> None:
    """It was let in before; nobody would end its stream."""
    with InProcess(new_engine(tiny_model)) as server:
        server.ask(as_coroutine(server.thread.close, "the server is shutting down"))
        answer = httpx.post(f"{server.url}/v1/completions", json=LONG | {"stream": True})
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "draining"


async def as_coroutine(function: Any, *args: Any) -> Any:
    return function(*args)


def test_a_body_that_does_not_come_is_408(tiny_model: Path) -> None:
    with InProcess(new_engine(tiny_model), receive_seconds=0.3) as server:
        head = b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{"
        answer = answer_to(server.url, head)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b'"error"' in answer


def test_a_silent_stream_is_kept_open_by_comments(tiny_model: Path) -> None:
    """Proxies close what is silent, and a long prefill is. Clients skip comments."""
    engine = new_engine(tiny_model)
    step, n_steps = engine.step, [0]

    def slow_start() -> Any:
        n_steps[0] += 1
        time.sleep(1.0 if n_steps[0] == 1 else 0)
        return step()

    engine.step = slow_start  # type: ignore[method-assign]
    with InProcess(engine, ping_seconds=0.1) as server:
        body = LONG | {"max_tokens": 5, "stream": True}
        events = httpx.post(f"{server.url}/v1/completions", json=body).text.split("\n\n")
        assert events[:3] == [": ping"] * 3
        assert all(event.startswith("data: ") for event in events[-4:-1])
        assert events[-2:] == ["data: [DONE]", ""]


@pytest.mark.parametrize("streamed", [True, False])
def test_a_request_that_takes_too_long_is_ended_in_words(tiny_model: Path, streamed: bool) -> None:
    with InProcess(new_engine(tiny_model), request_seconds=0.3) as server:
        answer = httpx.post(f"{server.url}/v1/completions", json=LONG | {"stream": streamed})
        error = (
            json.loads(answer.text.split("\n\n")[-3].removeprefix("data: ")) if streamed else answer.json()
        )
        assert error["error"]["code"] == "timeout"
        assert answer.status_code == (200 if streamed else 504)
        server.assert_empty_soon()
