"""Load a model, serve it, drain on SIGTERM. The socket is bound before the model is read, so that an occupied
port costs no minute of loading."""

import asyncio
import logging
import resource
import signal
import socket
import sys
from collections.abc import Callable
from dataclasses import replace

import uvicorn
from fastapi import FastAPI

from engine import Engine, ResourceError
from server.app import create_app
from server.http_protocol import guarded
from server.service import Service
from server.settings import Settings

logger = logging.getLogger("espalier.server")

# The event loop gives the interpreter's lock away with each write to a socket, and gets it back from a busy engine or
# tokenizer only after this time: Python's 5 ms would be 5 ms an answer.
SWITCH_SECONDS = 0.001
OTHER_FILES = 64  # that the process has open beside its connections, or may have
GRACE_SECONDS = 2.0  # the end of the drain time, in which the streams that are left are told


def bind(settings: Settings) -> socket.socket:
    """The listening socket. Raises ResourceError where the address cannot be had."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # The protocol is named because asyncio sets TCP_NODELAY only on sockets that say TCP, and accepted connections
    # inherit the number: without it a client's delayed acknowledgement holds each small write back for 40 ms.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((settings.host, settings.port))
    except OSError as error:
        sock.close()
        raise ResourceError(
            f"cannot listen on {settings.host} port {settings.port}: {error.strerror or error}; "
            "choose another --port or --host"
        ) from None
    return sock


def allow_files(n_connections: int) -> int:
    """Let the process have a file for each connection, up to its hard limit; how many connections that allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = n_connections + OTHER_FILES
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    return n_connections if soft == resource.RLIM_INFINITY else min(n_connections, max(soft - OTHER_FILES, 1))


def serve(engine: Engine, settings: Settings, sock: socket.socket, on_ready: Callable[[str], None]) -> int:
    """Run until SIGTERM, SIGINT or the engine's death; the exit status. on_ready gets the URL."""
    settings = replace(settings, max_connections=allow_files(settings.max_connections))
    app = create_app(engine, settings)
    server = _Server(uvicorn_config(app, settings), app.state.service, settings, sock, on_ready)
    sys.setswitchinterval(SWITCH_SECONDS)
    loop_factory = server.config.get_loop_factory()  # uvloop where it is installed
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(server.serve(sockets=[sock]))
    return 1 if app.state.service.thread.failure is not None else 0


def uvicorn_config(app: FastAPI, settings: Settings) -> uvicorn.Config:
    """How uvicorn runs the application: its protocol, its limits, no log and no headers of its own."""
    return uvicorn.Config(
        app,
        http=guarded(settings.max_connections, settings.send_seconds, app.state.admission),
        ws="none",
        timeout_graceful_shutdown=max(1, int(settings.drain_seconds)),
        log_config=None,
        access_log=False,
        server_header=False,
    )


class _Server(uvicorn.Server):
    """uvicorn, told apart in two ways: SIGTERM drains, and a dead engine ends the process."""

    def __init__(
        self,
        config: uvicorn.Config,
        service: Service,
        settings: Settings,
        sock: socket.socket,
        on_ready: Callable[[str], None],
    ) -> None:
        super().__init__(config)
        self._service, self._settings, self._on_ready = service, settings, on_ready
        self._sock = sock
        self._drain: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._service.thread.on_failure = self._engine_failed
        if self.started:
            host, port = self._sock.getsockname()[:2]
            self._on_ready(f"http://{f'[{host}]' if ':' in host else host}:{port}")

    def handle_exit(self, sig: int, frame: object) -> None:
        """The first signal drains: streams finish, /ready says 503. A second SIGINT ends at once."""
        if self._drain is not None and sig == signal.SIGINT:
            self.force_exit = self.should_exit = True
            return
        if self._drain is None:
            logger.info("draining: %d requests are open", self._service.thread.n_open)
            self._service.draining = True
            self._drain = asyncio.get_running_loop().create_task(self._drained())

    async def _drained(self) -> None:
        """Wait for the open requests, at most the drain time; tell what is left that it ends."""
        loop = asyncio.get_running_loop()
        end = loop.time() + max(self._settings.drain_seconds - GRACE_SECONDS, 0.0)
        while self._service.thread.n_open and loop.time() < end:
            await asyncio.sleep(0.05)
        self._service.thread.close("the server is shutting down")
        self.should_exit = True

    def _engine_failed(self) -> None:
        """Health checks may see the failure for a moment; then the process ends, non-zero."""

        async def end_soon() -> None:
            await asyncio.sleep(1.0)
            self.should_exit = True

        self._drain = asyncio.get_running_loop().create_task(end_soon())
