"""Passes recorded as CUDA graphs: some three hundred launches of a decode step become one.

A key stands for everything a pass depends on but the contents of its index arrays. The first pass of a key runs as it
is, which compiles what it needs; the second is recorded and replayed, later ones are replayed. A recording knows
addresses only: index arrays of the same shapes, made in the same order, lie where they lay.
"""

from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

from kernels.cuda.arena import Arena
from kernels.cuda.device import Device
from kernels.ops import Result


class _Recording(NamedTuple):
    graph: Any
    result: Any  # its memory stays with the recording


class Recorder:
    """The recorded passes of one device."""

    def __init__(self, device: Device, arena: Arena) -> None:
        self._device = device
        self._arena = arena
        self._seen: set[Hashable] = set()
        self._recordings: dict[Hashable, _Recording] = {}

    def run(self, key: Hashable, compute: Callable[[], Result]) -> Result:
        """compute(), or the replay of an earlier one: the result is valid until the next run of the key."""
        if key not in self._seen:
            self._seen.add(key)
            return compute()
        recording = self._recordings.get(key)
        if recording is None:
            recording = self._recordings[key] = self._record(compute)
        self._device.replay(recording.graph)
        return recording.result

    def _record(self, compute: Callable[[], Any]) -> _Recording:
        # Run once more, so that all the memory it takes is free when it is taken again; other recordings may have
        # kept some since the first time. A pass that runs twice writes the same keys and values twice.
        compute()
        self._arena.sealed = True
        self._device.begin_capture()
        try:
            result = compute()
        finally:
            graph = self._device.end_capture()
            self._arena.sealed = False
        return _Recording(graph, result)
