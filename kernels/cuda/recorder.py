"""Passes recorded as CUDA graphs: some three hundred launches of a decode step become one.

A key stands for everything a pass depends on but the contents of its index arrays. The first pass of a key runs as it
is, which compiles what it needs; the second is recorded and replayed, later ones are replayed. So each pass runs
once, whatever it writes: keys and values may be written twice, a recurrent state must not be. A recording knows
addresses only: index arrays of the same shapes, made in the same order, lie where they lay. It holds no memory: the
arena keeps what it has once taken, and since one stream runs everything in order, a replay writes over the results of
the pass before it only after everything that reads them.

Where a pass has work for the host (`between`), its recording is several graphs with that work between them.
"""

from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

from kernels.cuda.arena import Arena, DeviceArray
from kernels.cuda.device import Device
from kernels.ops import Result
from kernels.recordings import Recordings, map_arrays

Step = Callable[[], None]


class _Recording(NamedTuple):
    steps: tuple[Step, ...] | None  # None: the key was seen once
    result: Any


SEEN_ONCE = _Recording(None, None)


class Recorder:
    """Records passes on one device."""

    def __init__(self, device: Device, arena: Arena) -> None:
        self._device = device
        self._arena = arena
        self._steps: list[Step] = []  # of the pass that is being recorded

    def run(self, recordings: Recordings, key: Hashable, compute: Callable[[], Result]) -> Result:
        """compute(), or the replay of an earlier one: the result is valid until the next pass."""
        recording: _Recording | None = recordings.get(key)
        if recording is None:
            self._keep(recordings, key, SEEN_ONCE)
            return compute()
        if recording.steps is None:
            recording = self._record(compute)
            self._keep(recordings, key, recording)
        assert recording.steps is not None
        for step in recording.steps:
            step()
        result: Result = recording.result
        return result

    def between(self, step: Step) -> None:
        """`step` runs on the host when the device has been given its work so far and none that follows.

        It runs now, or whenever the pass that is being recorded is replayed.
        """
        if not self._device.holds_back:
            step()
        elif self._device.capturing:
            self._end_graph()
            self._steps.append(step)
            self._device.begin_capture()

    def _keep(self, recordings: Recordings, key: Hashable, recording: _Recording) -> None:
        if recordings.is_full:
            self._device.synchronize()  # the graph that goes may still be running
        recordings.put(key, recording)

    def _record(self, compute: Callable[[], Any]) -> _Recording:
        # Once for its memory alone, so that all it takes is there when it is taken again.
        with self._device.held_back():
            compute()
        self._steps = []
        self._arena.sealed = True
        self._device.begin_capture()
        try:
            result = compute()
        finally:
            if self._device.capturing:
                self._end_graph()
            self._arena.sealed = False
        steps, self._steps = tuple(self._steps), []
        return _Recording(steps, map_arrays(result, DeviceArray.without_memory))

    def _end_graph(self) -> None:
        graph = self._device.end_capture()
        self._steps.append(lambda: self._device.replay(graph))
