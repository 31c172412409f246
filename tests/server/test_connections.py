"""What a connection may expect of the server, and the server of a connection."""

import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from support.in_process import InProcess, new_engine

STREAM = {"prompt": "the inn", "max_tokens": 30, "ignore_eos": True, "stream": True}


@pytest.fixture(scope="module")
def running(tiny_model: Path) -> Iterator[InProcess]:
    with InProcess(new_engine(tiny_model)) as server:
        yield server


def test_a_kept_connection_sends_small_writes_at_once(running: InProcess) -> None:
    """Nagle's algorithm holds a small write back until the last one is acknowledged, and clients acknowledge 40 ms
    late: one request after another on one connection, as SDKs send them, then takes 44 ms each."""
    with httpx.Client(base_url=running.url) as client:
        for _ in range(20):
            assert client.get("/health").status_code == 200
            streamed = client.post("/v1/completions", json=STREAM).text
            assert streamed.count("data: ") > 10
        (connection,) = running.server.server_state.connections
        sock = connection.transport.get_extra_info("socket")
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
