"""Seconds of each operation of recorded passes, for benchmarks: what is left of a step is Python's."""

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kernels.cpu.ops import CpuOps


class CallClock:
    """Stands between a backend and its native object.

    seconds, calls: by the operation's name. passes: seconds of whole passes, the clock's own among them.
    """

    def __init__(self, native: Any) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.calls: dict[str, int] = defaultdict(int)
        self.passes = 0.0
        self._native = native

    def __getattr__(self, name: str) -> Any:
        return getattr(self._native, name)

    def run_program(self, program: Any) -> None:
        started = time.perf_counter()
        for name, seconds in self._native.time_program(program):
            self.seconds[name] += seconds
            self.calls[name] += 1
        self.passes += time.perf_counter() - started


@contextmanager
def clocked_calls(ops: CpuOps) -> Iterator[CallClock]:
    """Every pass that ops replays meanwhile is timed operation by operation."""
    native = ops._native
    clock = CallClock(native)
    ops._native = clock  # type: ignore[assignment]
    try:
        yield clock
    finally:
        ops._native = native
