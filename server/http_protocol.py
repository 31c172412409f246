"""uvicorn's h11 protocol with a deadline for a request's head: a connection that sends none is closed.

uvicorn itself waits for ever on a half-sent request, so a few hundred such connections would use up the server.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_SECONDS = 30.0
MAX_HEAD_BYTES = 64 << 10


class DeadlineH11Protocol(H11Protocol):
    """Once a request's head is there, its body has the middleware's deadline."""

    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._head_timer = self.loop.call_later(HEAD_SECONDS, self._close_headless)

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel_timer()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        super().handle_events()
        if self.cycle is not None:
            self._cancel_timer()

    def _close_headless(self) -> None:
        if self.cycle is None and not self.transport.is_closing():
            self.transport.close()

    def _cancel_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
