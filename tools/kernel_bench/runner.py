"""All cases over the tiers, a process for each tier; rows come as they are measured."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import IO

from tools.kernel_bench.cases import Case
from tools.kernel_bench.rows import Row


class WorkerError(Exception):
    """A tier's process ended early; the line says how."""


def measure(cases: Sequence[tuple[str, Case]], budget_s: float) -> Iterator[Row]:
    """Rows in the order of the cases. The process ends when the iterator does. Raises WorkerError."""
    for tier, group in groupby(cases, key=lambda pair: pair[0]):
        yield from _measure_tier(tier, [case for _, case in group], budget_s)


def _measure_tier(tier: str, cases: list[Case], budget_s: float) -> Iterator[Row]:
    with subprocess.Popen(
        [sys.executable, "-m", "tools.kernel_bench.worker", str(budget_s)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | {"ESPALIER_ISA": tier},
        start_new_session=True,  # a Ctrl-C is the parent's alone
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            for case in cases:
                yield Row(*_answer(process.stdin, process.stdout, tier, case))
            process.stdin.close()
        except BaseException:
            process.kill()
            raise


def _answer(asked: IO[str], answers: IO[str], tier: str, case: Case) -> list:
    try:
        print(json.dumps([case.op, *case]), file=asked, flush=True)
        line = answers.readline()
    except BrokenPipeError:
        line = ""
    if not line:
        raise WorkerError(f"the process of tier {tier} ended at {case}")
    return json.loads(line)
