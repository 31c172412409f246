"""The only bridge between asyncio and the engine: one thread owns the engine, everything else sends it commands.

The engine never waits for a consumer. After a step all its events cross in one call to the event loop; a request
whose consumer has fallen too far behind is aborted, the rest of the batch goes on. If a step raises or
does not return, or the thread ends, every open request ends with an error, `failure` says why, and `on_failure` is
called once.
"""

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from engine import NO_READS, Engine, EngineStats, PromptReads, SamplingParams, TokenEvent
from engine.guides.guide import Guide
from server.errors import engine_failed, overloaded

logger = logging.getLogger("espalier.engine_thread")

MAX_PENDING_EVENTS = 8192  # of one client request, all its choices together
WATCH_SECONDS = 1.0  # between two looks at the engine's thread, at most


class EventQueue:
    """The events of one client request, all its choices together, in the order in which they came. One consumer."""

    def __init__(self) -> None:
        self._events: list[TokenEvent] = []
        self._waiter: asyncio.Future[None] | None = None

    def put(self, event: TokenEvent) -> bool:
        """False when the consumer is too far behind."""
        self._events.append(event)
        self.wake()
        return len(self._events) <= MAX_PENDING_EVENTS

    def replace(self, event: TokenEvent) -> None:
        """The event in place of everything that waits."""
        self._events = [event]
        self.wake()

    def wake(self) -> None:
        """End the consumer's wait, so that it looks at its deadline."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def take(self) -> list[TokenEvent]:
        """Everything that waits, in one list; sleeps until there is an event. Empty only after `wake`."""
        if not self._events:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        events, self._events = self._events, []
        return events


class EngineThread:
    """start() on the event loop that serves; stop() when it has drained."""

    def __init__(self, engine: Engine, *, step_seconds: float = 600.0) -> None:
        self.engine = engine
        self.failure: str | None = None
        self.on_failure: Callable[[], None] = lambda: None
        self._step_seconds = step_seconds
        self._closed = False
        self._commands: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._queues: dict[str, EventQueue] = {}  # by request id
        self._calls: set[asyncio.Future[Any]] = set()  # whose callers wait for the engine's thread
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
        return len(self._queues)

    async def submit(
        self,
        request_id: str,
        prompt_ids: Sequence[int],
        params: SamplingParams,
        events: EventQueue,
        reads: PromptReads = NO_READS,
        guide: Guide | None = None,
    ) -> None:
        """Queue a request; its events go to `events`. Raises RequestError as Engine.add does, ApiError 503 when the
        engine is dead or closed.

        The caller owes an `abort` when it stops listening, however it stops.
        """
        if self._closed and self.failure is None:
            raise overloaded("the server is shutting down", retry_after_s=5, code="draining")
        self._queues[request_id] = events
        try:
            await self._call(lambda: self.engine.add(request_id, prompt_ids, params, reads, guide))
        except BaseException:
            self.abort(request_id)
            raise

    def abort(self, request_id: str) -> None:
        """Forget a request, in whatever phase; unknown ids are nothing."""
        if self._queues.pop(request_id, None) is not None:
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
        for request_id, events in list(self._queues.items()):
            events.put(TokenEvent(request_id, finish_reason="error", error=reason))
            self.abort(request_id)

    async def _call(self, function: Callable[[], Any]) -> Any:
        """Run on the engine's thread, between two steps. Raises what function raises, ApiError 503 when the engine
        has failed or fails meanwhile."""
        if self.failure is not None:
            raise engine_failed()
        loop = self._loop
        assert loop is not None, "start() comes first"
        future: asyncio.Future[Any] = loop.create_future()
        self._calls.add(future)

        def run() -> None:
            try:
                result, error = function(), None
            except Exception as raised:
                result, error = None, raised
            self._post(_resolve, future, result, error)

        self._commands.put(run)
        try:
            return await future
        finally:
            self._calls.discard(future)

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
        except BaseException:  # SystemExit too: nobody else would learn that this thread has ended
            self._post(self._fail, "the engine failed")
            logger.exception("the engine failed in a step")

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
            queue = self._queues.get(event.request_id)
            if queue is not None and not queue.put(event):
                self._drop(queue, event.request_id)

    def _drop(self, queue: EventQueue, request_id: str) -> None:
        """End every request whose events go to this queue."""
        logger.warning("dropping request %s: its client reads nothing", request_id)
        queue.replace(TokenEvent(request_id, finish_reason="error", error="the client reads too slowly"))
        for other_id, other in list(self._queues.items()):
            if other is queue:
                self.abort(other_id)

    def _fail(self, reason: str) -> None:
        if self.failure is not None:
            return
        self.failure = reason
        self._end_streams(reason)
        for future in self._calls:
            _resolve(future, None, engine_failed())
        self.on_failure()

    async def _watch(self) -> None:
        """Notice a step that does not return, and a thread that has ended without a word."""
        while True:
            await asyncio.sleep(min(self._step_seconds / 4, WATCH_SECONDS))
            started = self._step_started
            if started is not None and time.monotonic() - started > self._step_seconds:
                logger.error("a step has run for more than %g s: the engine hangs", self._step_seconds)
                self._fail("the engine hangs")
            elif not self._thread.is_alive():
                self._fail("the engine's thread has ended")


def _resolve(future: "asyncio.Future[Any]", result: Any, error: Exception | None) -> None:
    if future.done():  # cancelled, or the engine has failed
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
