"""Bytes that are no proper request: each is refused in the API's JSON, or hung up on, and none reaches a route."""

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from server import http_protocol
from support.in_process import InProcess, new_engine
from support.raw_http import answer_to, connect, received

POST = b"POST /v1/completions HTTP/1.1\r\nhost: x\r\n"
BODY = b'{"prompt": "the", "max_tokens": 1}'
LONG = {"prompt": "the inn", "max_tokens": 450, "ignore_eos": True, "seed": 3, "stream": True}


@pytest.fixture(scope="module", params=["asyncio", "uvloop"])
def running(request: pytest.FixtureRequest, tiny_model: Path) -> Iterator[InProcess]:
    """Both event loops: uvloop is not installed everywhere."""
    pytest.importorskip(request.param)
    with InProcess(new_engine(tiny_model), loop=request.param) as server:
        yield server


def assert_refused(answer: bytes, status: int) -> None:
    """One answer, in OpenAI's shape, with an id, small, and the connection is over."""
    assert answer.count(b"HTTP/1.1 ") == 1
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status), answer[:200]
    headers = head.lower()
    assert b"\r\nx-request-id: " in headers
    assert b"\r\ncontent-type: application/json" in headers
    assert b"\r\nconnection: close" in headers
    assert set(json.loads(body)["error"]) >= {"message", "type", "param", "code"}
    assert len(answer) < 4096


MALFORMED = {
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n",
    "no version": b"GET /health\r\n\r\n",
    "another version": b"GET /health HTTP/3.9\r\nhost: x\r\n\r\n",
    "a method nobody knows": b"KILL /health HTTP/1.1\r\nhost: x\r\n\r\n",
    "bytes in the path": b"GET /\xff HTTP/1.1\r\nhost: x\r\n\r\n",
    "a tunnel": b"CONNECT x:80 HTTP/1.1\r\nhost: x\r\n\r\n",
    "no host": b"GET /health HTTP/1.1\r\n\r\n",
    "two hosts": b"GET /health HTTP/1.1\r\nhost: x\r\nhost: y\r\n\r\n",
    "a space before the colon": POST + b"content-length : 3\r\n\r\nabc",
    "a folded header": POST + b"a: b\r\n c\r\n\r\n",
    "NUL in a header": POST + b"a: b\x00c\r\n\r\n",
    "length and chunks": POST + b"content-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks and length": POST + b"transfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n0\r\n\r\n",
    "two equal lengths": POST + b"content-length: 34\r\ncontent-length: 34\r\n\r\n" + BODY,
    "a list of lengths": POST + b"content-length: 34, 34\r\n\r\n" + BODY,
    "a signed length": POST + b"content-length: +34\r\n\r\n" + BODY,
    "a length past 64 bits": POST + b"content-length: 99999999999999999999999\r\n\r\n" + BODY,
    "another coding": POST + b"transfer-encoding: gzip\r\n\r\n",
    "two codings": POST + b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "a coding twice": POST + b"transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks in HTTP/1.0": b"POST /v1/completions HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "a chunk's length that is none": POST + b"transfer-encoding: chunked\r\n\r\nzz\r\n\r\n",
    "a chunk longer than it says": POST + b"transfer-encoding: chunked\r\n\r\n1\r\nabc\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("name", MALFORMED)
def test_what_is_not_one_request_is_400(running: InProcess, name: str) -> None:
    """Requests whose length can be read in two ways among them: a proxy might read the other one."""
    assert_refused(answer_to(running.url, MALFORMED[name]), 400)


LARGE = {
    "one header": POST + b"a: " + b"b" * (10 << 20) + b"\r\n\r\n",
    "many headers": POST + b"a: b\r\n" * 30_000 + b"\r\n",
    "a path": b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n",
    "line breaks": b"\r\n" * 200_000,
}


@pytest.mark.parametrize("name", LARGE)
def test_a_head_without_end_is_431(running: InProcess, name: str) -> None:
    """Larger ones too, whose clients read nothing before they have sent everything."""
    assert_refused(answer_to(running.url, LARGE[name]), 431)


@pytest.mark.parametrize("endless", [b"a: " + b"b" * (1 << 20), b"a: b\r\n" * 50_000])
def test_trailers_without_end_are_431_and_are_no_headers(running: InProcess, endless: bytes) -> None:
    head = POST + b"transfer-encoding: chunked\r\n\r\n1\r\n{\r\n0\r\n"
    assert_refused(answer_to(running.url, head + endless), 431)
    trailer = b"x-request-id: from-a-trailer\r\n\r\n"
    whole = POST + b"connection: close\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n" + trailer
    assert b"from-a-trailer" not in answer_to(running.url, whole)


def test_a_chunked_body_of_single_bytes_is_taken(running: InProcess) -> None:
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in BODY + b" " * 20_000) + b"0\r\n\r\n"
    raw = POST + b"connection: close\r\ntransfer-encoding: chunked\r\n\r\n" + chunks
    assert answer_to(running.url, raw).startswith(b"HTTP/1.1 200 ")


def test_an_offer_of_http2_is_declined_and_the_request_answered(running: InProcess) -> None:
    """Java's HTTP client and curl --http2 make it, with bodies too. What follows is read as well."""
    offer = b"connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMA\r\n"
    raw = POST + offer + b"content-length: %d\r\n\r\n" % len(BODY) + BODY
    answer = answer_to(running.url, raw + b"GET /nowhere HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    assert [part[:3] for part in answer.split(b"HTTP/1.1 ")[1:]] == [b"200", b"404"]


def test_requests_that_do_not_wait_for_answers_get_them_in_order(running: InProcess) -> None:
    get = b"GET %s HTTP/1.1\r\nhost: x\r\n%s\r\n"
    raw = get % (b"/health", b"") + get % (b"/nowhere", b"") + get % (b"/ready", b"connection: close\r\n")
    answer = answer_to(running.url, raw)
    assert [part[:3] for part in answer.split(b"HTTP/1.1 ")[1:]] == [b"200", b"404", b"200"]
    assert answer_to(running.url, (get % (b"/health", b"")) * 50).count(b"HTTP/1.1 200 ") >= 1


def test_nonsense_after_a_request_does_not_spoil_its_answer(running: InProcess) -> None:
    body = json.dumps(LONG | {"max_tokens": 20}).encode()
    request = POST + b"content-length: %d\r\n\r\n" % len(body) + body
    answer = answer_to(running.url, request + b"\x00\x01nonsense\r\n\r\n")
    assert answer.count(b"HTTP/1.1 ") == 1
    assert answer.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")


def test_a_client_that_leaves_with_requests_in_line_ends_the_one_that_runs(running: InProcess) -> None:
    body = json.dumps(LONG).encode()
    request = POST + b"content-length: %d\r\n\r\n" % len(body) + body
    with connect(running.url) as connection:
        connection.sendall(request + request)
        assert connection.recv(100)
    running.assert_empty_soon()


def test_a_head_that_does_not_come_is_hung_up_on(running: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first one and every later one on a kept connection, however much of it has come."""
    monkeypatch.setattr(http_protocol, "HEAD_SECONDS", 0.5)
    health = b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n"
    beginnings = [b"", b"\r\n", b"GET /health HTTP/1.1\r\nhost:"]
    for before in (b"", health):
        for beginning in beginnings:
            if before and not beginning:
                continue  # an idle connection is kept a while longer
            with connect(running.url) as connection:
                connection.sendall(before)
                answer = b""
                while before and b'"ok"' not in answer:
                    answer += connection.recv(4096)
                connection.sendall(beginning)
                with contextlib.suppress(ConnectionResetError):
                    assert received(connection) == b""
    assert httpx.get(f"{running.url}/health").status_code == 200


def test_too_many_connections_close_the_ones_that_wait_longest(tiny_model: Path) -> None:
    """Clients that send half a request, or none, cannot keep others out."""
    with InProcess(new_engine(tiny_model), max_connections=4) as server:
        idle = [connect(server.url) for _ in range(20)]
        for connection in idle[::2]:
            connection.sendall(b"GET /health HT")
        assert httpx.get(f"{server.url}/health").status_code == 200
        assert httpx.post(f"{server.url}/v1/completions", content=BODY).status_code == 200
        end = time.monotonic() + 5
        while len(server.server.server_state.connections) > 4:
            assert time.monotonic() < end
            time.sleep(0.01)
        for connection in idle:
            connection.close()
