"""Faults of ours: whatever breaks, clients are told in the API's words, and what can go on goes on."""

import json
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest

from server import middleware
from server.generations import choice
from server.routes import completions
from server.settings import Settings
from support.in_process import InProcess, new_engine
from support.raw_http import connect, one_answer, post
from support.server_process import running_server

LONG = {"prompt": "the inn", "max_tokens": 450, "ignore_eos": True, "seed": 3}
SHORT = LONG | {"max_tokens": 2}


def failing(engine: Any, error: BaseException | None, after: int = 20) -> Any:
    """The engine, whose step fails after a few, or does not return where error is None."""
    step, calls, never = engine.step, [0], threading.Event()

    def faulty_step() -> Any:
        calls[0] += 1
        if calls[0] > after:
            if error is None:
                never.wait(10)
                return []
            raise error
        return step()

    engine.step = faulty_step
    return engine


@pytest.mark.parametrize(
    "error", [RuntimeError("a bug"), MemoryError(), SystemExit(3), KeyboardInterrupt(), GeneratorExit(), None]
)
def test_an_engine_that_fails_ends_its_streams_and_its_health(
    tiny_model: Path, error: BaseException | None
) -> None:
    """Any exception in a step, those that end a thread in silence among them, and a step that does not return."""
    told = "the engine hangs" if error is None else "the engine failed"
    failed = []
    step_seconds = 0.4 if error is None else 60.0
    with InProcess(failing(new_engine(tiny_model), error), step_seconds=step_seconds) as server:
        server.thread.on_failure = lambda: failed.append(True)
        with httpx.Client(base_url=server.url, timeout=10) as client:
            events = client.post("/v1/completions", json=LONG | {"stream": True}).text.split("\n\n")
            assert json.loads(events[-3].removeprefix("data: "))["error"]["message"] == told
            assert events[-2] == "data: [DONE]"
            assert client.get("/health").status_code == 503
            answer = client.post("/v1/completions", json=LONG)
            assert answer.status_code == 503
            assert answer.json()["error"]["code"] == "engine_failed"
    assert failed == [True]


@pytest.mark.parametrize("error", [SystemExit(3), MemoryError()])
def test_a_caller_that_waits_for_the_engine_is_told_when_it_fails(
    tiny_model: Path, error: BaseException
) -> None:
    """Adding a request fails, not a step: the request has no events yet, only a caller."""
    engine = new_engine(tiny_model)

    def faulty_add(*_: object) -> None:
        raise error

    engine.add = faulty_add  # type: ignore[method-assign]
    with InProcess(engine) as server:
        answer = httpx.post(f"{server.url}/v1/completions", json=LONG, timeout=10)
        assert answer.status_code == (500 if isinstance(error, Exception) else 503)
        assert answer.headers["x-request-id"]


ENDS_ITSELF = """
import engine.engine
step, calls = engine.engine.Engine.step, [0]
def faulty(self):
    calls[0] += 1
    if calls[0] > 20:
        raise SystemExit(0)
    return step(self)
engine.engine.Engine.step = faulty
from tools.cli import main
main()
"""


@pytest.mark.slow
def test_a_server_whose_engine_has_ended_ends_too_and_not_with_0(tiny_model: Path) -> None:
    """A supervisor starts it again only if it can see that something went wrong."""
    with running_server(tiny_model, program=ENDS_ITSELF) as server:
        answer = httpx.post(f"{server.url}/v1/completions", json=LONG | {"stream": True}, timeout=10)
        assert answer.text.endswith("data: [DONE]\n\n")
        assert '"error"' in answer.text
        assert server.wait(10) == 1


def test_an_exception_in_a_route_is_a_500_with_its_id_on_a_connection_that_goes_on(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", middleware.logger.name)

    def broken(_: object) -> None:
        raise RecursionError("deep within")

    with InProcess(new_engine(tiny_model)) as server, connect(server.url) as connection:
        with monkeypatch.context() as patch:
            patch.setattr(completions, "completion_request", broken)
            connection.sendall(post(SHORT).replace(b"host: x", b"host: x\r\nx-request-id: mine"))
            status, headers, body = one_answer(connection)
        assert (status, headers["x-request-id"]) == (500, "mine")
        error = json.loads(body)["error"]
        assert error["type"] == "server_error"
        assert "mine" in error["message"]
        assert "deep within" not in body.decode()
        connection.sendall(post(SHORT))
        assert one_answer(connection)[0] == 200
    lines = [record.getMessage() for record in caplog.records]
    assert any(line.startswith("POST /v1/completions 500 ") and line.endswith("id=mine") for line in lines)
    assert any(record.exc_info and "mine" in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize("streamed", [True, False])
def test_an_exception_while_a_piece_is_made_is_an_error_the_client_sees(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, streamed: bool
) -> None:
    """In the middle of a stream: text, then an error event, then [DONE]; nothing of the request stays."""
    push, calls = choice.TextStream.push, [0]

    def broken(self: Any, token_ids: Any) -> Any:
        calls[0] += 1
        if calls[0] > 10:
            raise IndexError("a bug of ours")
        return push(self, token_ids)

    monkeypatch.setattr(choice.TextStream, "push", broken)
    with InProcess(new_engine(tiny_model)) as server:
        answer = httpx.post(f"{server.url}/v1/completions", json=LONG | {"stream": streamed})
        if streamed:
            *texts, error, done, end = answer.text.split("\n\n")
            assert (done, end) == ("data: [DONE]", "")
            assert texts
            assert json.loads(error.removeprefix("data: "))["error"]["type"] == "server_error"
        else:
            assert answer.status_code == 500
        assert "a bug of ours" not in answer.text
        server.assert_empty_soon()


OPEN = ("/health", "/ready")
CLOSED = ("/healthz", "/health/x", "/ready/x", "/readyz", "/v1/models", "/docs", "/openapi.json", "/HEALTH")


@pytest.fixture(scope="module")
def guarded(tiny_model: Path) -> Any:
    with InProcess(new_engine(tiny_model), api_keys=("first-key", "second-key")) as server:
        yield server


def test_the_paths_that_need_no_key_are_exact(guarded: InProcess) -> None:
    for path in OPEN:
        assert httpx.get(guarded.url + path).status_code == 200
    for path in CLOSED:
        assert httpx.get(guarded.url + path).status_code == 401, path


def test_every_key_is_compared_in_constant_time(guarded: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is given: which key was right, or how much of it, shows in no comparison that ends early."""
    compared = []
    compare = middleware.hmac.compare_digest

    def noted(a: bytes, b: bytes) -> bool:
        compared.append(b)
        return compare(a, b)

    monkeypatch.setattr(middleware.hmac, "compare_digest", noted)
    given = {"first-key": 200, "second-key": 200, "second-kez": 401, "": 401}
    for key, status in given.items():
        compared.clear()
        headers = {"authorization": f"Bearer {key}"} if key else {}
        assert httpx.get(f"{guarded.url}/v1/models", headers=headers).status_code == status
        assert compared == [key.encode() for key in Settings(api_keys=("first-key", "second-key")).api_keys]
