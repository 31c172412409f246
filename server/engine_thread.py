"""The only bridge between asyncio and the engine: one thread owns the engine, everything else sends it commands.

The engine never waits for a consumer. After a step all its events cross in one call to the event loop; a request
whose consumer has fallen too far behind is aborted, the rest of the batch goes on. If a step raises, or does not
return, every open request ends with an error, `failure` says why, and `on_failure` is called once.
"""

import asyncio
import collections
import logging
import queue
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from engine import Engine, EngineStats, SamplingParams, TokenEvent
from server.errors import ApiError, overloaded

logger = logging.getLogger("espalier.engine_thread")

MAX_PENDING_EVENTS = 8192  # of one request; a client that takes nothing for so long has gone


class EngineStream:
    """The events of one request, in order, until the one that carries a finish_reason."""

    def __init__(self, request_id: str) -> None:
        self.request_id = request_id
        self._events: collections.deque[TokenEvent] = collections.deque()
        self._arrived = asyncio.Event()

    def put(self, event: TokenEvent) -> bool:
        """False when the consumer is too far behind."""
        self._events.append(event)
        self._arrived.set()
        return len(self._events) <= MAX_PENDING_EVENTS

    async def until(self, deadline: float) -> AsyncIterator[TokenEvent]:
        """deadline: of the event loop's clock. Raises TimeoutError when it passes without an event."""
        while True:
            while self._events:
                event = self._events.popleft()
                yield event
                if event.finish_reason is not None:
                    return
            self._arrived.clear()
            # Around the wait alone: a timeout held across a yield would cancel the consumer's own awaits.
            async with asyncio.timeout_at(deadline):
                await self._arrived.wait()


class EngineThread:
    """start() on the event loop that serves; stop() when it has drained."""

    def __init__(self, engine: Engine, *, step_seconds: float = 600.0) -> None:
        self.engine = engine
        self.failure: str | None = None
        self.on_failure: Callable[[], None] = lambda: None
        self._step_seconds = step_seconds
        self._closed = False
        self._commands: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._streams: dict[str, EngineStream] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._serve, name="engine", daemon=True)
        self._step_started: float | None = None
        self._watchdog: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._watchdog = asyncio.create_task(self._watch())
        self._thread.start()

    async def stop(self) -> None:
        if self._watchdog is not None:
            self._watchdog.cancel()
        self._commands.put(None)
        if self.failure is None:
            await asyncio.to_thread(self._thread.join, 10)

    @property
    def n_open(self) -> int:
        return len(self._streams)

    async def submit(
        self, request_id: str, prompt_ids: Sequence[int], params: SamplingParams
    ) -> EngineStream:
        """Queue a request. Raises RequestError as Engine.add does, ApiError 503 when the engine is dead or closed.

        The caller owes an `abort` when it stops listening, however it stops.
        """
        if self.failure is not None:
            raise ApiError(503, "the engine has failed; the server is going down", code="engine_failed")
        if self._closed:
            raise overloaded("the server is shutting down", retry_after_s=5, code="draining")
        stream = self._streams[request_id] = EngineStream(request_id)
        try:
            await self._call(lambda: self.engine.add(request_id, prompt_ids, params))
        except BaseException:
            self.abort(request_id)
            raise
        return stream

    def abort(self, request_id: str) -> None:
        """Forget a request, in whatever phase; unknown ids are nothing."""
        if self._streams.pop(request_id, None) is not None:
            self._commands.put(lambda: self.engine.abort(request_id))

    async def stats(self) -> EngineStats:
        return await self._call(self.engine.stats)

    async def check_integrity(self) -> None:
        await self._call(self.engine.check_integrity)

    def close(self, reason: str) -> None:
        """End every open stream and take no more: a request that was let in before a drain may still be on its way
        here, and nobody would tell it later."""
        self._closed = True
        self._end_streams(reason)

    def _end_streams(self, reason: str) -> None:
        """With an error event each; the engine forgets them."""
        for request_id, stream in list(self._streams.items()):
            stream.put(TokenEvent(request_id, finish_reason="error", error=reason))
            self._commands.put(lambda request_id=request_id: self.engine.abort(request_id))  # type: ignore[misc]
        self._streams.clear()

    async def _call(self, function: Callable[[], Any]) -> Any:
        """Run on the engine's thread, between two steps."""
        loop = self._loop
        assert loop is not None, "start() comes first"
        future: asyncio.Future[Any] = loop.create_future()

        def run() -> None:
            try:
                result, error = function(), None
            except Exception as raised:
                result, error = None, raised
            loop.call_soon_threadsafe(_resolve, future, result, error)

        self._commands.put(run)
        return await future

    # On the engine's thread.

    def _serve(self) -> None:
        try:
            while self._run_commands():
                if self.engine.has_work:
                    self._step_started = time.monotonic()
                    events = self.engine.step()
                    self._step_started = None
                    if events:
                        self._post(self._deliver, events)
        except Exception:
            logger.exception("the engine failed in a step")
            self._post(self._fail, "the engine failed")

    def _run_commands(self) -> bool:
        """All waiting commands; sleeps for the first one when there is nothing else to do. False: stop."""
        command: Callable[[], None] | None
        while True:
            try:
                command = self._commands.get(block=not self.engine.has_work)
            except queue.Empty:
                return True
            if command is None:
                return False
            command()

    def _post(self, function: Callable[..., None], *args: Any) -> None:
        try:
            assert self._loop is not None
            self._loop.call_soon_threadsafe(function, *args)
        except RuntimeError:  # the loop has closed: nobody listens
            logger.debug("event loop closed; dropping engine events")

    # On the event loop.

    def _deliver(self, events: list[TokenEvent]) -> None:
        for event in events:
            stream = self._streams.get(event.request_id)
            if stream is None:
                continue
            if not stream.put(event):
                logger.warning("dropping request %s: its client reads nothing", event.request_id)
                stream.put(
                    TokenEvent(event.request_id, finish_reason="error", error="the client reads too slowly")
                )
                self.abort(event.request_id)

    def _fail(self, reason: str) -> None:
        if self.failure is None:
            self.failure = reason
            self._end_streams(reason)
            self.on_failure()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(min(self._step_seconds / 4, 5.0))
            started = self._step_started
            if started is not None and time.monotonic() - started > self._step_seconds:
                logger.error("a step has run for more than %g s: the engine hangs", self._step_seconds)
                self._fail("the engine hangs")


def _resolve(future: "asyncio.Future[Any]", result: Any, error: Exception | None) -> None:
    if future.cancelled():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
