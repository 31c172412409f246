"""Streams, events and graphs. What is enqueued runs when somebody waits for it (or at once: `Machine.eager`).

Running late shows a host that reads too early or overwrites what a copy has yet to read; running at once shows a
host that reads a buffer which a later step has overwritten. Tests run both ways.
"""

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from support.cuda_emulator import KernelFault
from support.fake_cupy.machine import (
    CAPTURE_UNSUPPORTED,
    ILLEGAL_ADDRESS,
    NOT_READY,
    CUDARuntimeError,
    Machine,
)


class Operation(NamedTuple):
    """Something a stream does. `holds`: memory that must live until it has run (CuPy's pool sees to that)."""

    run: Callable[[], None]
    holds: tuple[Any, ...] = ()


class Stream:
    """As cupy.cuda.Stream. A blocking stream shares its queue with the null stream: they wait for each other."""

    def __init__(self, timeline: "Timeline", non_blocking: bool, ptr: int) -> None:
        self._timeline = timeline
        self.ptr = ptr
        self.non_blocking = non_blocking
        self.queue: deque[Operation] = deque() if non_blocking or ptr == 0 else timeline.null.queue
        self.recording: list[Operation] | None = None

    def enqueue(self, operation: Operation) -> None:
        machine = self._timeline.machine
        machine.check()
        if self.recording is not None:
            # A graph does not keep memory alive: replaying it over freed buffers must show.
            self.recording.append(Operation(operation.run))
            return
        self.queue.append(operation)
        machine.enqueued()
        if machine.eager:
            self.run_until(lambda: not self.queue)

    def run_until(self, done: Callable[[], bool]) -> None:
        """Run from the front of the queue until `done()`. A kernel's fault ends the device."""
        machine = self._timeline.machine
        while not done():
            try:
                self.queue[0].run()
            except KernelFault as fault:
                machine.failure = CUDARuntimeError(ILLEGAL_ADDRESS, str(fault))
                raise machine.failure from fault
            self.queue.popleft()
            machine.finished()

    def synchronize(self) -> None:
        self._timeline.machine.check_host_may_wait("waiting for a stream")
        self.run_until(lambda: not self.queue)

    @property
    def done(self) -> bool:
        self._timeline.machine.check()
        return not self.queue

    def record(self, event: "Event | None" = None) -> "Event":
        event = event or Event(self._timeline)
        event.record(self)
        return event

    def wait_event(self, event: "Event") -> None:
        self.check_not_recording("waiting for an event")
        if event.marker is not None:
            self.enqueue(Operation(event.marker.finish))

    def check_not_recording(self, what: str) -> None:
        """The emulation's graphs are of one stream: no forks, no joins."""
        if self.recording is not None:
            raise CUDARuntimeError(CAPTURE_UNSUPPORTED, what)

    def begin_capture(self, mode: int | None = None) -> None:
        machine = self._timeline.machine
        machine.check()
        if self.ptr == 0 or machine.capturing:
            raise CUDARuntimeError(CAPTURE_UNSUPPORTED, "the null stream, or a second capture")
        self.recording = []
        machine.capturing = True

    def is_capturing(self) -> bool:
        return self.recording is not None

    def end_capture(self) -> "Graph":
        machine = self._timeline.machine
        machine.check()
        if self.recording is None:
            raise CUDARuntimeError(CAPTURE_UNSUPPORTED, "the stream is not capturing")
        recorded, self.recording = self.recording, None
        machine.capturing = False
        return Graph(self._timeline, recorded)

    def use(self) -> "Stream":
        self._timeline.current = self
        return self

    def __enter__(self) -> "Stream":
        self._timeline.entered.append(self._timeline.current)
        return self.use()

    def __exit__(self, *error: object) -> None:
        self._timeline.current = self._timeline.entered.pop()


class Marker:
    """One recording of an event: a point in a stream's queue."""

    def __init__(self, stream: Stream, now: Callable[[], float]) -> None:
        self.stream = stream
        self._now = now
        self.reached_at: float | None = None

    def reach(self) -> None:
        self.reached_at = self._now()

    def finish(self) -> None:
        self.stream.run_until(lambda: self.reached_at is not None)


class Event:
    """As cupy.cuda.Event: stands for its latest recording."""

    def __init__(self, timeline: "Timeline") -> None:
        self._timeline = timeline
        self.marker: Marker | None = None

    def record(self, stream: Stream | None = None) -> None:
        stream = stream or self._timeline.current
        stream.check_not_recording("recording an event")
        self.marker = Marker(stream, self._timeline.machine.now)
        stream.enqueue(Operation(self.marker.reach))

    def synchronize(self) -> None:
        self._timeline.machine.check_host_may_wait("waiting for an event")
        if self.marker is not None:
            self.marker.finish()

    def time(self) -> float:
        """When it was reached, in seconds."""
        if self.marker is None or self.marker.reached_at is None:
            raise CUDARuntimeError(NOT_READY, "an event that has not been waited for")
        return self.marker.reached_at

    @property
    def done(self) -> bool:
        self._timeline.machine.check()
        return self.marker is None or self.marker.reached_at is not None


class Graph:
    """As cupy.cuda.Graph: what a stream recorded, to be run again."""

    def __init__(self, timeline: "Timeline", operations: Iterable[Operation]) -> None:
        self._timeline = timeline
        self.operations = tuple(operations)

    def launch(self, stream: Stream | None = None) -> None:
        stream = stream or self._timeline.current
        stream.enqueue(Operation(self._run))

    def upload(self, stream: Stream | None = None) -> None:
        """Nothing to prepare here."""

    def _run(self) -> None:
        for operation in self.operations:
            operation.run()


class Timeline:
    """The streams of one machine, and which one is current."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.null = Stream(self, non_blocking=False, ptr=0)
        self.streams = [self.null]
        self.current = self.null
        self.entered: list[Stream] = []

    def new_stream(self, null: bool = False, non_blocking: bool = False) -> Stream:
        self.machine.check()
        if null:
            return self.null
        self.streams.append(Stream(self, non_blocking, ptr=0x1000 + len(self.streams)))
        return self.streams[-1]

    def new_event(self, block: bool = False, disable_timing: bool = False) -> Event:
        self.machine.check()
        return Event(self)

    def stream_of(self, ptr: int) -> Stream:
        return next(stream for stream in self.streams if stream.ptr == ptr)

    def synchronize(self) -> None:
        for stream in self.streams:
            stream.synchronize()

    def elapsed_ms(self, start: Event, end: Event) -> float:
        return 1e3 * (end.time() - start.time())
