"""What choosing tokens costs: `python -m tools.choice_bench`.

One row on one thread, native on every tier and in NumPy, the judge, whose token all must choose. Times are CPU time
of this process, so that what else the machine does hardly matters. What sampling costs a step of the whole engine:
`espalier bench --batch 8`.
"""

import statistics
import time
from collections.abc import Callable
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from engine import SamplingParams
from engine.choice_rows import TokenIds, rows_of
from engine.request import Request
from kernels import load_backend
from kernels.cpu import _native
from kernels.ops import Ops
from tools.backends import machine_line

SAMPLERS = {
    "greedy": SamplingParams(temperature=0),
    "temperature 1": SamplingParams(),
    "top_k 40": SamplingParams(top_k=40),
    "top_p 0.9": SamplingParams(top_p=0.9),
    "top_k 40, top_p 0.95, min_p 0.05": SamplingParams(top_k=40, top_p=0.95, min_p=0.05),
    "repetition 1.1": SamplingParams(repetition_penalty=1.1),
    "logprobs 20": SamplingParams(logprobs=20),
}


def main(
    n_vocab: Annotated[int, typer.Option(min=1, help="Logits of the row.")] = 1 << 17,
    calls: Annotated[int, typer.Option(min=1, help="Calls, of which the median counts.")] = 30,
) -> None:
    console = Console()
    console.print(machine_line())
    console.print(rows_table(n_vocab, calls))


def rows_table(n_vocab: int, calls: int) -> Table:
    backends = {isa: load_backend("cpu", threads=1, isa=isa) for isa in _native.isa_tiers()}
    backends["NumPy"] = load_backend("reference")
    table = Table("milliseconds of a thread", *backends, title=f"one row of {n_vocab} logits")
    # As a language model's: a few likely tokens, many that are not.
    logits = np.random.default_rng(0).normal(0, 3, (1, n_vocab)).astype(np.float32)
    for name, params in SAMPLERS.items():
        few = max(calls // 10, 1)
        answers = [
            milliseconds(ops, logits, params, few if ops.name == "reference" else calls)
            for ops in backends.values()
        ]
        assert len({token_id for _, token_id in answers}) == 1, f"{name}: not the judge's token"
        table.add_row(name, *(f"{ms:.3f}" for ms, _ in answers))
    return table


def milliseconds(ops: Ops, logits: np.ndarray, params: SamplingParams, calls: int) -> tuple[float, int]:
    """The median of CPU time, and the token."""
    n_vocab = logits.shape[1]
    tokens = TokenIds(n_vocab, frozenset())
    seen = [(i * i) % n_vocab for i in range(500)]
    ops.begin_step()
    row = rows_of([Request("bench", params, 7, seen, 100, 1000)], tokens)
    choices = row.on(ops, ops.index_array(np.zeros(1, np.int32)))
    ops.choose(logits, choices)  # makes its scratch memory
    times = [seconds(lambda: ops.choose(logits, choices)) for _ in range(calls)]
    return 1e3 * statistics.median(times), int(
        ops.fetch_chosen(ops.choose(logits, choices), 1)().token_ids[0]
    )


def seconds(call: Callable[[], object]) -> float:
    """CPU time of all threads."""
    started = time.process_time()
    call()
    return time.process_time() - started


if __name__ == "__main__":
    typer.run(main)
