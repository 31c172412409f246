"""What the HTTP side of a server costs: `python -m tools.server_bench`.

The server runs in a process of its own, as `espalier serve` runs it, first with an engine that computes nothing and
gives each stream a token a step, then with the demo model. The first table is the CPU time of the event loop's thread
per streamed token (what JSON, HTTP and sockets cost, whatever else the machine does), the second the times that one
client sees on one kept connection (wall clock: only a quiet machine shows what it is about).
"""

import itertools
import json
import multiprocessing
import selectors
import socket
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from engine import Engine, EngineConfig, SamplingParams, TokenEvent, load_model
from engine.guides.guide import Guide
from engine.types import NO_READS, PromptReads
from kernels import load_backend
from server.main import bind, serve
from server.settings import Settings
from tools.demo import DEMO_MODEL

CHAT = {"messages": [{"role": "user", "content": "Hello"}], "ignore_eos": True, "temperature": 0}
STEP_SECONDS = 0.01  # of the engine that computes nothing: about a step of 32 streams on a desktop's CPU
TOKENS = 200  # of each stream
REPEATS = 60  # of each request on the kept connection


class QuickEngine(Engine):
    """The engine as the server sees it, with steps that take STEP_SECONDS and choose tokens without a model."""

    def __init__(self, *args: object) -> None:
        super().__init__(*args)  # type: ignore[arg-type]
        assert self.tokenizer is not None
        text = "the old innkeeper, laughing, told them a story about the sea"
        self._ids = self.tokenizer.encode(text, add_special=False, parse_special=False)
        self._left: dict[str, int] = {}

    @property
    def has_work(self) -> bool:
        return bool(self._left)

    def add(
        self,
        request_id: str,
        prompt_ids: object,
        params: SamplingParams,
        reads: PromptReads = NO_READS,
        guide: Guide | None = None,
    ) -> None:
        self._left[request_id] = params.max_tokens or TOKENS

    def abort(self, request_id: str) -> None:
        self._left.pop(request_id, None)

    def step(self) -> list[TokenEvent]:
        time.sleep(STEP_SECONDS)
        events = []
        for request_id, left in list(self._left.items()):
            token_id = self._ids[left % len(self._ids)]
            events.append(TokenEvent(request_id, (token_id,), "length" if left == 1 else None))
            self._left[request_id] = left - 1
            if left == 1:
                del self._left[request_id]
        return events


def _serve(pipe: Connection, quick: bool) -> None:
    """The server's process: sends its port, then the loop thread's CPU seconds each time it is asked."""
    settings = Settings(port=0)
    loaded = load_model(DEMO_MODEL, load_backend("cpu"))
    engine = (QuickEngine if quick else Engine)(loaded, EngineConfig())
    clock = time.pthread_getcpuclockid(threading.get_ident())

    def answer() -> None:
        while pipe.recv():
            pipe.send(time.clock_gettime(clock))

    def ready(url: str) -> None:
        pipe.send(int(url.rpartition(":")[2]))
        threading.Thread(target=answer, daemon=True).start()

    with bind(settings) as sock:
        sys.exit(serve(engine, settings, sock, ready))


@contextmanager
def _server(quick: bool) -> Iterator[tuple[int, Connection]]:
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(theirs, quick), daemon=True)
    process.start()
    theirs.close()  # so that a server that ends is an EOFError here
    try:
        yield ours.recv(), ours
    finally:
        process.terminate()
        process.join()


def _post(path: str, body: object) -> bytes:
    raw = json.dumps(body).encode()
    return b"POST %s HTTP/1.1\r\nhost: bench\r\ncontent-length: %d\r\n\r\n" % (path.encode(), len(raw)) + raw


def loop_us_per_token(port: int, pipe: Connection, n_streams: int) -> float:
    """Microseconds of the event loop's thread, from n_streams requests at once to the last events, for each token."""
    pipe.send(True)
    before = pipe.recv()
    selector = selectors.DefaultSelector()
    for _ in range(n_streams):
        connection = socket.create_connection(("127.0.0.1", port))
        connection.sendall(_post("/v1/chat/completions", CHAT | {"max_tokens": TOKENS, "stream": True}))
        selector.register(connection, selectors.EVENT_READ, bytearray())
    n_open, n_tokens = n_streams, 0
    while n_open:
        for key, _ in selector.select():
            received: bytearray = key.data
            received += key.fileobj.recv(1 << 16)  # type: ignore[union-attr]
            if received.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n"):
                selector.unregister(key.fileobj)
                key.fileobj.close()  # type: ignore[union-attr]
                n_open -= 1
                n_tokens += TOKENS
    pipe.send(True)
    return (pipe.recv() - before) / n_tokens * 1e6


def _exchange(connection: socket.socket, request: bytes) -> list[float]:
    """The times, in seconds after the request, at which something of its answer came."""
    start, times, received = time.perf_counter(), [], b""
    connection.sendall(request)
    while not _whole(received):
        received += connection.recv(1 << 16)
        times.append(time.perf_counter() - start)
    return times


def _whole(received: bytes) -> bool:
    head, found, body = received.partition(b"\r\n\r\n")
    if not found:
        return False
    lengths = [line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
    return len(body) >= int(lengths[0].split(b":")[1]) if lengths else body.endswith(b"0\r\n\r\n")


def kept_connection(port: int) -> dict[str, float]:
    """Milliseconds on one connection: medians of small answers, the largest gap of ten streams."""
    get = b"GET /health HTTP/1.1\r\nhost: bench\r\n\r\n"
    one = _post("/v1/completions", {"prompt": "Hello", "max_tokens": 1, "temperature": 0})
    stream = _post("/v1/chat/completions", CHAT | {"max_tokens": 60, "stream": True})
    with socket.create_connection(("127.0.0.1", port)) as connection:
        result = {
            f"{name}, median": statistics.median(_exchange(connection, request)[-1] for _ in range(REPEATS))
            for name, request in (("GET /health", get), ("one token", one))
        }
        arrivals = [_exchange(connection, stream) for _ in range(10)]
    gaps = sorted(b - a for times in arrivals for a, b in itertools.pairwise(times))
    result |= {"stream, median gap": statistics.median(gaps), "stream, largest gap": gaps[-1]}
    return {name: seconds * 1e3 for name, seconds in result.items()}


def main(
    streams: Annotated[list[int] | None, typer.Argument(help="numbers of streams at once; 1 8 32 64")] = None,
    latency: Annotated[bool, typer.Option(help="also the kept connection on the demo model")] = True,
) -> None:
    """Measure the event loop's CPU time per streamed token, and the latencies of one kept connection."""
    out = Console()
    costs = Table("streams", "loop CPU, us a token")
    with _server(quick=True) as (port, pipe):
        loop_us_per_token(port, pipe, 4)  # imports and caches
        for n_streams in streams or (1, 8, 32, 64):
            costs.add_row(str(n_streams), f"{loop_us_per_token(port, pipe, n_streams):.1f}")
    out.print(costs)
    if latency:
        with _server(quick=False) as (port, _):
            times = Table("kept connection", "ms")
            for name, ms in kept_connection(port).items():
                times.add_row(name, f"{ms:.2f}")
        out.print(times)


if __name__ == "__main__":
    typer.run(main)
