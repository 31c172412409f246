"""More than the server can take: what is refused is refused at once and in words, what is let in succeeds."""

import asyncio
import json
import socket
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from server import body as body_module
from server import engine_thread
from server.generations.choice import Ask
from server.generations.generation import Generation
from server.generations.prompts import Prompt
from support.in_process import InProcess, new_engine
from support.raw_http import connect, one_answer, post
from support.server_process import running_server

SHORT = {"prompt": "the inn", "max_tokens": 2, "ignore_eos": True}
LONG = SHORT | {"max_tokens": 450, "stream": True}


def assert_overloaded(status: int, headers: Any, body: bytes) -> None:
    assert status == 503
    assert json.loads(body)["error"]["code"] == "server_overloaded"
    assert 1 <= int(headers["retry-after"]) <= 60
    assert headers["x-request-id"]


async def test_a_crowd_is_refused_unread_and_those_let_in_succeed(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """150 at once for 4 + 64 places. A refused request's body is not even parsed: it costs those inside nothing."""
    n_parsed = 0
    parse = body_module.parse_object

    def counted(raw: bytes) -> Any:
        nonlocal n_parsed
        n_parsed += 1
        return parse(raw)

    monkeypatch.setattr(body_module, "parse_object", counted)
    with InProcess(new_engine(tiny_model, max_batch=4, max_queue=64)) as server:
        limits = httpx.Limits(max_connections=150)
        async with httpx.AsyncClient(base_url=server.url, timeout=60, limits=limits) as client:
            answers = await asyncio.gather(*(client.post("/v1/completions", json=SHORT) for _ in range(150)))
        await asyncio.to_thread(server.assert_empty_soon)
    refused = [answer for answer in answers if answer.status_code != 200]
    for answer in refused:
        assert_overloaded(answer.status_code, answer.headers, answer.content)
    assert 68 <= len(answers) - len(refused) == n_parsed


def test_a_crowd_of_one_moment_is_refused_before_any_of_it_is_looked_at(tiny_model: Path) -> None:
    """All requests lie in the sockets when the loop comes to them: the HTTP layer counts what it has let in.

    A page's request is refused too, with the headers that let the page read it.
    """
    with InProcess(new_engine(tiny_model, max_batch=2, max_queue=3)) as server:
        crowd = [connect(server.url) for _ in range(40)]
        page = connect(server.url)
        time.sleep(0.1)  # the connections are accepted
        loop = server.thread._loop
        assert loop is not None
        loop.call_soon_threadsafe(time.sleep, 0.4)  # it is away while they come
        time.sleep(0.1)
        for connection in crowd:
            connection.sendall(post(SHORT))
        page.sendall(post(SHORT, origin="http://localhost:3000"))
        statuses = []
        for connection in crowd:
            status, headers, body = one_answer(connection)
            statuses.append(status)
            if status != 200:
                assert_overloaded(status, headers, body)
        status, headers, body = one_answer(page)
        assert_overloaded(status, headers, body)
        assert headers["access-control-allow-origin"] == "http://localhost:3000"
    assert statuses.count(200) == 5


def test_a_probe_does_not_wait_for_a_crowd_that_is_let_in(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each request holds the loop for 10 ms when it is parsed; the probe comes when all of them have come."""
    parse, n_parsed = body_module.parse_object, []

    def slow(raw: bytes) -> Any:
        time.sleep(0.01)
        n_parsed.append(1)
        return parse(raw)

    monkeypatch.setattr(body_module, "parse_object", slow)
    with InProcess(new_engine(tiny_model, max_batch=4, max_queue=64)) as server:
        crowd = [connect(server.url) for _ in range(40)]
        probe = connect(server.url)
        time.sleep(0.1)  # the connections are accepted
        loop = server.thread._loop
        assert loop is not None
        loop.call_soon_threadsafe(time.sleep, 0.3)  # it is away while they come
        time.sleep(0.1)
        for connection in crowd:
            connection.sendall(post(SHORT))
        time.sleep(0.25)
        probe.sendall(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n")
        assert one_answer(probe)[0] == 200
        assert len(n_parsed) < 35, "the probe waited for the whole crowd"
        assert [one_answer(connection)[0] for connection in crowd] == [200] * 40


def test_a_full_server_answers_a_head_without_waiting_for_its_body(tiny_model: Path) -> None:
    """And its probes and its list of models as ever; the place is free again when a request has ended."""
    with InProcess(new_engine(tiny_model, max_batch=1, max_queue=1)) as server:
        inside = [connect(server.url) for _ in range(2)]
        for connection in inside:
            connection.sendall(post(LONG))
            assert connection.recv(10)
        with connect(server.url) as late:
            late.sendall(post(SHORT).partition(b"{")[0])
            assert_overloaded(*one_answer(late))
        for path in ("/health", "/ready", "/v1/models"):
            assert httpx.get(server.url + path).status_code == 200
        for connection in inside:
            connection.close()
        server.assert_empty_soon()
        assert httpx.post(f"{server.url}/v1/completions", json=SHORT).status_code == 200


def test_bodies_that_do_not_come_take_no_place(tiny_model: Path) -> None:
    with InProcess(new_engine(tiny_model, max_batch=1, max_queue=1)) as server:
        slow = [connect(server.url) for _ in range(10)]
        for connection in slow:
            connection.sendall(post(SHORT)[:-1])
        assert httpx.post(f"{server.url}/v1/completions", json=SHORT).status_code == 200
        for connection in slow:
            connection.close()


def test_more_requests_than_connections_allowed_leave_room_for_the_probes(tiny_model: Path) -> None:
    with InProcess(new_engine(tiny_model), max_connections=2) as server:
        running = [connect(server.url) for _ in range(2)]
        for connection in running:
            connection.sendall(post(LONG))
            assert connection.recv(10)
        answer = httpx.post(f"{server.url}/v1/completions", json=SHORT)
        assert_overloaded(answer.status_code, answer.headers, answer.content)
        assert httpx.get(f"{server.url}/v1/models").status_code == 503
        assert httpx.get(f"{server.url}/health").status_code == 200
        assert httpx.get(f"{server.url}/ready").status_code == 200
        for connection in running:
            connection.close()
        server.assert_empty_soon()


def stalled_client(server: InProcess, body: Any) -> socket.socket:
    """It reads nothing. Sockets accepted from now on have small buffers, or the kernel would hold a whole answer."""
    server.listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    stalled = connect(server.url, receive_buffer=2048)
    stalled.sendall(post(body))
    return stalled


@pytest.mark.slow
async def test_a_client_that_reads_nothing_is_cut_off_and_nothing_of_it_stays(tiny_model: Path) -> None:
    """Its neighbour reads on."""
    with InProcess(new_engine(tiny_model, max_batch=16), send_seconds=1.0) as server:
        with stalled_client(server, LONG | {"prompt": ["the"] * 16}):
            async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:
                text = (await client.post("/v1/completions", json=LONG)).text
            assert text.endswith("data: [DONE]\n\n")
            assert '"error"' not in text
            end = time.monotonic() + 10
            while len(server.server.server_state.connections) > 0:
                assert time.monotonic() < end
                await asyncio.sleep(0.05)
        await asyncio.to_thread(server.assert_empty_soon)


def test_the_events_of_a_request_are_bounded_over_all_its_prompts(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None of the prompts alone reaches the bound. The connection may stay for a while, the requests may not."""
    monkeypatch.setattr(engine_thread, "MAX_PENDING_EVENTS", 460)
    with InProcess(new_engine(tiny_model, max_batch=8)) as server:
        stalled = stalled_client(server, LONG | {"prompt": ["the"] * 8})
        end = time.monotonic() + 20
        while server.thread.n_open == 0:
            assert time.monotonic() < end
        while server.thread.n_open:
            assert time.monotonic() < end
            time.sleep(0.01)
        assert len(server.server.server_state.connections) == 1
        server.assert_empty_soon()
        stalled.close()


def test_a_chunked_body_is_bounded_as_it_comes(tiny_model: Path) -> None:
    """It declares no length. What is sent beyond the limit is not kept, and the answer comes before the end of it."""
    with InProcess(new_engine(tiny_model), max_body_bytes=100_000) as server:
        with connect(server.url) as connection:
            connection.sendall(
                b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
            )
            chunk = b"2710\r\n" + b" " * 10_000 + b"\r\n"
            connection.sendall(chunk * 9)
            connection.settimeout(0.2)
            with pytest.raises(TimeoutError):
                connection.recv(10)
            connection.settimeout(10)
            connection.sendall(chunk * 2)
            status, headers, body = one_answer(connection)
        assert status == 413
        assert headers["connection"] == "close"
        assert "100000 bytes" in json.loads(body)["error"]["message"]
        fitting = b'{"prompt": "the", "max_tokens": 1, "user": "' + b"x" * 90_000 + b'"}'
        chunks = (fitting[i : i + 5000] for i in range(0, len(fitting), 5000))
        assert httpx.post(f"{server.url}/v1/completions", content=chunks).status_code == 200


async def test_a_request_whose_sender_gives_up_at_the_engines_door_is_forgotten(tiny_model: Path) -> None:
    """The engine is in a step, so the request waits to be added when it is cancelled."""
    engine = new_engine(tiny_model)
    step, in_step, may_step = engine.step, threading.Event(), threading.Event()

    def held_step() -> Any:
        in_step.set()
        may_step.wait(10)
        return step()

    engine.step = held_step  # type: ignore[method-assign]
    with InProcess(engine) as server:
        service = server.app.state.service
        ask = Ask(engine_thread.SamplingParams(max_tokens=400, ignore_eos=True))

        def generation(token_id: int) -> Generation:
            return Generation(service.thread, service.tokenizer, [Prompt([1, token_id])], ask)

        async def begin_two_and_give_up_on_the_second() -> None:
            first = generation(300)
            await first.begin()
            # A request that arrives before the step begins is added with the first one.
            assert await asyncio.to_thread(in_step.wait, 10)
            second = asyncio.create_task(generation(301).begin())
            await asyncio.sleep(0.1)
            assert not second.done()
            second.cancel()
            await asyncio.wait([second])
            first.close()
            assert server.thread.n_open == 0

        await asyncio.to_thread(server.ask, begin_two_and_give_up_on_the_second())
        may_step.set()
        await asyncio.to_thread(server.assert_empty_soon)


FEW_FILES = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (80, 100))
from tools.cli import main
main()
"""


def test_connections_are_no_more_than_the_files_the_process_may_have(tiny_model: Path) -> None:
    """With 2048 allowed and 100 files, accepting would fail, for the probes too, as long as others hold theirs."""
    with running_server(tiny_model, program=FEW_FILES) as server:
        idle = [connect(server.url) for _ in range(120)]
        for _ in range(3):
            assert httpx.get(f"{server.url}/health", timeout=5).status_code == 200
        for connection in idle:
            connection.close()
