"""Where a decode step's time goes on the CPU: each operation's part, and Python's before and after them.

A step is one native call that replays recorded operations. Steps without a clock tell how long one takes, steps with
one how long its operations do and what Python does around that call.
"""

import statistics
import time
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from kernels.cpu.call_clock import clocked_calls
from tools.speed_tests import SpeedRuns

STEPS = 8  # with the clock and without, in turns


@dataclass(frozen=True)
class CallTime:
    """One operation, its calls of a step together."""

    name: str
    n_calls: int
    us: float


@dataclass(frozen=True)
class CpuStepProfile:
    """A decode step of one sequence after `depth` tokens; medians."""

    depth: int
    step_us: float
    python_us: float
    calls: list[CallTime]

    def as_json(self) -> dict[str, Any]:
        return {
            "depth": self.depth,
            "step_us": round(self.step_us, 2),
            "python_us": round(self.python_us, 2),
            "calls": [{"call": call.name, "n": call.n_calls, "us": round(call.us, 2)} for call in self.calls],
        }


def profile_cpu_step(runs: SpeedRuns, ops: Any, depth: int) -> CpuStepProfile:
    """The context of `runs` is filled. ops: the CPU backend of its model."""
    plain: list[float] = []
    around: list[float] = []
    of_calls: dict[str, list[float]] = {}
    n_calls: dict[str, int] = {}
    runs.step(depth)
    for _ in range(STEPS):
        started = time.perf_counter()
        runs.step(depth)
        plain.append(time.perf_counter() - started)
        with clocked_calls(ops) as clock:
            started = time.perf_counter()
            runs.step(depth)
            around.append(time.perf_counter() - started - clock.passes)
        n_calls = dict(clock.calls)
        for name, seconds in clock.seconds.items():
            of_calls.setdefault(name, []).append(seconds)
    calls = [CallTime(name, n_calls[name], 1e6 * statistics.median(of_calls[name])) for name in n_calls]
    step_us, python_us = (1e6 * statistics.median(seconds) for seconds in (plain, around))
    return CpuStepProfile(depth, step_us, python_us, calls)


def print_cpu_profile(profile: CpuStepProfile, out: Console) -> None:
    table = Table("call", "calls", "us each", "us a step", "of the step")
    table.title = f"a decode step after {profile.depth} tokens: {profile.step_us:.0f} us"
    for call in sorted(profile.calls, key=lambda call: -call.us):
        each = f"{call.us / call.n_calls:.1f}"
        table.add_row(
            call.name, f"{call.n_calls}", each, f"{call.us:.0f}", f"{call.us / profile.step_us:.1%}"
        )
    share = profile.python_us / profile.step_us
    table.add_row("Python around them", "", "", f"{profile.python_us:.0f}", f"{share:.1%}")
    out.print(table)
