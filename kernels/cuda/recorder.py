"""Passes recorded as CUDA graphs: some three hundred launches of a decode step become one.

A key stands for everything a pass depends on but the contents of its index arrays. The first pass of a key runs as it
is, which compiles what it needs; the second is recorded and replayed, later ones are replayed. A recording knows
addresses only: index arrays of the same shapes, made in the same order, lie where they lay. It holds no memory: the
arena keeps what it has once taken, and since one stream runs everything in order, a replay writes over the results of
the pass before it only after everything that reads them.
"""

from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

from kernels.cuda.arena import Arena, DeviceArray
from kernels.cuda.device import Device
from kernels.ops import Result
from kernels.recordings import Recordings, map_arrays


class _Recording(NamedTuple):
    graph: Any  # None: the key was seen once
    result: Any


SEEN_ONCE = _Recording(None, None)


class Recorder:
    """Records passes on one device."""

    def __init__(self, device: Device, arena: Arena) -> None:
        self._device = device
        self._arena = arena

    def run(self, recordings: Recordings, key: Hashable, compute: Callable[[], Result]) -> Result:
        """compute(), or the replay of an earlier one: the result is valid until the next pass."""
        recording: _Recording | None = recordings.get(key)
        if recording is None:
            self._keep(recordings, key, SEEN_ONCE)
            return compute()
        if recording.graph is None:
            recording = self._record(compute)
            self._keep(recordings, key, recording)
        self._device.replay(recording.graph)
        result: Result = recording.result
        return result

    def _keep(self, recordings: Recordings, key: Hashable, recording: _Recording) -> None:
        if recordings.is_full:
            self._device.synchronize()  # the graph that goes may still be running
        recordings.put(key, recording)

    def _record(self, compute: Callable[[], Any]) -> _Recording:
        # Run once more, so that all the memory it takes is there when it is taken again. A pass that runs twice
        # writes the same keys and values twice.
        compute()
        self._arena.sealed = True
        self._device.begin_capture()
        try:
            result = compute()
        finally:
            graph = self._device.end_capture()
            self._arena.sealed = False
        return _Recording(graph, map_arrays(result, DeviceArray.without_memory))
