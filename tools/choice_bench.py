"""What choosing tokens costs: `python -m tools.choice_bench`.

The first table is one row on one thread, native on every tier and in NumPy, the judge, whose token all must choose.
The second is the whole engine: decode steps of eight sequences, greedy and with default sampling, in turns. Both are
CPU time of this process, so that what else the machine does hardly matters.
"""

import statistics
import time
from collections.abc import Callable
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from engine import Engine, EngineConfig, SamplingParams, synthetic_model
from engine.choice_rows import TokenIds, rows_of
from engine.request import Request
from kernels import load_backend
from kernels.cpu import _native
from kernels.ops import Ops
from tools.backends import machine_line
from tools.progress import progress_bar

SAMPLERS = {
    "greedy": SamplingParams(temperature=0),
    "temperature 1": SamplingParams(),
    "top_k 40": SamplingParams(top_k=40),
    "top_p 0.9": SamplingParams(top_p=0.9),
    "top_k 40, top_p 0.95, min_p 0.05": SamplingParams(top_k=40, top_p=0.95, min_p=0.05),
    "repetition 1.1": SamplingParams(repetition_penalty=1.1),
    "logprobs 20": SamplingParams(logprobs=20),
}
N_SEQUENCES = 8
PROMPT = 16  # tokens of each


def main(
    n_vocab: Annotated[int, typer.Option(min=1, help="Logits of the row.")] = 1 << 17,
    calls: Annotated[int, typer.Option(min=1, help="Calls, of which the median counts.")] = 30,
    steps: Annotated[
        int, typer.Option(min=0, help="Decode steps of a turn of the engine; 0: no engine.")
    ] = 32,
    turns: Annotated[int, typer.Option(min=1, help="Turns of each.")] = 5,
    shape: Annotated[
        str, typer.Option(help="Of the engine's model, as `espalier bench` knows them.")
    ] = "llama-0.85b",
) -> None:
    console = Console()
    console.print(machine_line())
    console.print(rows_table(n_vocab, calls))
    if steps:
        console.print(engine_table(shape, steps, turns))


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


def engine_table(shape: str, steps: int, turns: int) -> Table:
    with progress_bar("making the model") as report:
        loaded = synthetic_model(shape, "IQ2_KT", load_backend("cpu"), report)
    engine = Engine(loaded, EngineConfig(ctx_size=PROMPT + steps + 8, max_batch=N_SEQUENCES))
    kinds = {"greedy": SamplingParams(temperature=0), "default sampling": SamplingParams(seed=1)}
    times: dict[str, list[float]] = {name: [] for name in kinds}
    for turn in range(turns):
        for name, params in list(kinds.items())[:: 1 if turn % 2 else -1]:
            times[name].append(seconds_of_decoding(engine, params, steps) / steps)
    greedy = statistics.median(times["greedy"])
    table = Table(
        "CPU ms a step", "median", "least", "over greedy", title=f"{shape}, {N_SEQUENCES} sequences"
    )
    for name, each in times.items():
        over = f"{statistics.median(each) / greedy - 1:+.1%}"
        table.add_row(name, f"{1e3 * statistics.median(each):.2f}", f"{1e3 * min(each):.2f}", over)
    return table


def seconds_of_decoding(engine: Engine, params: SamplingParams, steps: int) -> float:
    """Of `steps` decode steps of eight sequences that end together."""
    rng = np.random.default_rng(0)
    answer = SamplingParams(**(vars(params) | {"max_tokens": steps + 2, "ignore_eos": True}))
    for i in range(N_SEQUENCES):
        engine.add(str(i), rng.integers(0, engine.n_vocab, PROMPT).tolist(), answer)
    engine.step()  # the prompts
    engine.step()  # the first decode step of a shape is recorded
    elapsed = sum(seconds(engine.step) for _ in range(steps))
    assert not engine.has_work
    return elapsed


if __name__ == "__main__":
    typer.run(main)
