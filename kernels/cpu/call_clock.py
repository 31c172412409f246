"""Seconds of each native call of a CPU backend, for benchmarks: what is left of a step is Python's."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from kernels.cpu.ops import CpuOps


class CallClock:
    """Stands between a backend and its native object. seconds, calls: by the native function's name."""

    def __init__(self, native: Any) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.calls: dict[str, int] = defaultdict(int)
        self._native = native

    def __getattr__(self, name: str) -> Callable[..., Any]:
        function = getattr(self._native, name)

        def clocked(*arguments: Any) -> Any:
            started = time.perf_counter()
            result = function(*arguments)
            self.seconds[name] += time.perf_counter() - started
            self.calls[name] += 1
            return result

        self.__dict__[name] = clocked  # found without this method from now on
        return clocked


@contextmanager
def clocked_calls(ops: CpuOps) -> Iterator[CallClock]:
    """Every native call of ops meanwhile goes through the clock."""
    native = ops._native
    clock = CallClock(native)
    ops._native = clock  # type: ignore[assignment]
    try:
        yield clock
    finally:
        ops._native = native
