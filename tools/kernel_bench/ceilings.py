"""The ceilings of one tier at one thread count (kernels/cpu/ceilings.h): each measured once a run, the best call."""

from functools import cache, partial
from typing import NamedTuple

import numpy as np

from kernels.cpu import _native
from tools.kernel_bench.timing import bytes_beyond_caches, seconds_of

_FIRST_COUNT = 1 << 20


class Ceiling(NamedTuple):
    """name: trellis, dots, fmas (instructions), memory or cache.

    gmacs: weights times tokens, 1e9 a second on all threads.
    """

    name: str
    gmacs: float


class Ceilings:
    """budget_s: for each measurement, about."""

    def __init__(self, n_threads: int, isa: str, budget_s: float) -> None:
        self._budget_s = budget_s
        self._native = _native.Ceilings(n_threads, isa)
        self.loop = cache(self._loop)
        self._bytes = cache(self._bytes_per_second)

    def gigabytes(self, nbytes: int, cold: bool) -> float:
        """1e9 bytes a second of a sequential read, from memory or of nbytes again and again."""
        return self._bytes(bytes_beyond_caches() if cold else min(nbytes, bytes_beyond_caches()))

    def lowest(self, loops: dict[str, float], nbytes: int, macs: int, cold: bool) -> Ceiling:
        """What bounds a call of that many macs: `loops`, how often each loop counts in it, or the nbytes it reads.

        cold: from memory, else from the caches.
        """
        instructions = sum(count / (1e9 * self.loop(name)) for name, count in loops.items())  # seconds
        reading = nbytes / (1e9 * self.gigabytes(nbytes, cold))
        if reading > instructions:
            return Ceiling("memory" if cold else "cache", macs / reading / 1e9)
        return Ceiling("+".join(loops), macs / instructions / 1e9)

    def _loop(self, name: str) -> float:
        """1e9 a second on all threads."""
        n = _FIRST_COUNT
        while (seconds := min(seconds_of(partial(self._native.run, name, n), 0))) < self._budget_s / 4:
            n *= 2
        return n / seconds / 1e9

    def _bytes_per_second(self, size: int) -> float:
        buffer = np.ones(max(size // 64 * 64, 64), np.uint8)
        return buffer.nbytes / min(seconds_of(partial(self._native.read, buffer), self._budget_s)) / 1e9
