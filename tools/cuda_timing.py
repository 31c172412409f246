"""How long launches take on a card: as graphs between two events, so that no host is in the figure.

On the tests' emulated device every time is NaN: it has none, and none is ever shown.
"""

import math
import statistics
from collections.abc import Sequence
from typing import Any

import numpy as np

from kernels.cuda.device import Device, Launch

SAMPLES = 5  # the median of so many
SAMPLE_US = 2000.0  # a sample repeats short work until it takes about so long
MAX_REPEATS = 200
READ_BYTES = 1 << 30  # at most; far more than any second-level cache
READ_BLOCKS_PER_MULTIPROCESSOR = 8
READ_THREADS = 256  # bandwidth.cu


class Timer:
    """Of one device."""

    def __init__(self, device: Device) -> None:
        self._device = device

    def us(self, launches: Sequence[Launch]) -> float:
        """Microseconds of the launches in a row, as one graph. They have run before: everything is compiled."""
        device = self._device
        device.begin_capture()
        for launch in launches:
            device.launch(*launch)
        graph = device.end_capture()
        device.replay(graph)
        n = 1
        if not device.emulated:
            n = min(max(math.ceil(SAMPLE_US / max(self._replays_us(graph, 1), 1.0)), 1), MAX_REPEATS)
        us = statistics.median(self._replays_us(graph, n) for _ in range(1 if device.emulated else SAMPLES))
        return math.nan if device.emulated else us / n

    def read_bandwidth(self) -> float:
        """Bytes per second of a kernel that reads a large buffer once."""
        device = self._device
        n_bytes = 1 << 16 if device.emulated else min(READ_BYTES, device.free_bytes() // 2 // 16 * 16)
        blocks = READ_BLOCKS_PER_MULTIPROCESSOR * device.n_multiprocessors
        source, results = device.allocate(n_bytes), device.allocate(4 * blocks * READ_THREADS)
        device.clear(source.pointer, n_bytes)
        arguments = (np.uint64(source.pointer), np.int64(n_bytes // 16), np.uint64(results.pointer))
        launch = Launch("bandwidth", "read_stream", (blocks,), READ_THREADS, arguments)
        device.launch(*launch)
        return 1e6 * n_bytes / self.us([launch])

    def _replays_us(self, graph: object, n: int) -> float:
        start = self._device.timestamp()
        for _ in range(n):
            self._device.replay(graph)
        return self._device.elapsed_us(start, self._device.timestamp())


def device_of(ops: Any) -> Device | None:
    """The GPU that a backend uses; None for a backend without one."""
    return ops.device if ops.name == "cuda" else None


def figure(value: float, form: str) -> str:
    """A time or what follows from one, for people."""
    return "emulated" if math.isnan(value) else format(value, form)


def json_figure(value: float, digits: int) -> float | None:
    return None if math.isnan(value) else round(value, digits)
