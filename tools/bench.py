"""`espalier bench`: tokens per second of a prompt and of generation, as the peer's llama-bench defines them.

pp N: N tokens through the model from an empty context, logits of the last one. tg N: N tokens one at a time, each
step with its logits. Medians and deviations are of whole repetitions, after one that warms up.
"""

import json as jsonlib
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from engine import EspalierError, LoadedModel, load_model, synthetic_model
from tools.backends import backend_line, machine_line, open_backend
from tools.model_runs import SequenceRuns
from tools.progress import progress_bar

PROMPT_CHUNK = 512  # tokens in one pass, the peer's default batch


def run(
    model: Path | None,
    synthetic: tuple[str, str] | None,
    n_prompt: int,
    n_gen: int,
    repetitions: int,
    device: str,
    threads: int | None,
    json: bool,
) -> None:
    if (model is None) == (synthetic is None):
        raise EspalierError("bench needs either MODEL.gguf or --synthetic SHAPE TYPE")
    if min(n_prompt, n_gen) < 0 or n_prompt + n_gen == 0 or repetitions < 1:
        raise EspalierError("bench needs -p or -n above zero and -r of at least 1")
    ops = open_backend(device, threads)
    with progress_bar("making the model" if synthetic else "loading") as report:
        loaded = _load(model, synthetic, ops, report)
    for n in (n_prompt, n_gen):
        if n > loaded.config.n_ctx_max:
            raise EspalierError(f"{n} tokens do not fit the model's context of {loaded.config.n_ctx_max}")
    results = [_measure(loaded, kind, n, repetitions) for kind, n in (("pp", n_prompt), ("tg", n_gen)) if n]
    _print(loaded, results)
    if json:
        print(jsonlib.dumps({"results": results}))


def _load(model: Path | None, synthetic: tuple[str, str] | None, ops: Any, report: Any) -> LoadedModel:
    if synthetic is None:
        return load_model(model or "", ops, progress=report)
    try:
        return synthetic_model(*synthetic, ops, report)
    except (ValueError, MemoryError) as error:
        raise EspalierError(f"--synthetic: {error}") from None


def _measure(loaded: LoadedModel, kind: str, n_tokens: int, repetitions: int) -> dict[str, Any]:
    runs = SequenceRuns(loaded, 1, n_tokens)
    rng = np.random.default_rng(0)
    token_ids = rng.integers(0, loaded.config.n_vocab, n_tokens).tolist()
    test = _prompt if kind == "pp" else _generation
    with progress_bar(f"{kind}{n_tokens}") as report:
        seconds = []
        for repetition in range(repetitions + 1):
            seconds.append(_timed(lambda: test(runs, token_ids)))
            report(repetition + 1, repetitions + 1)
    speeds = [n_tokens / s for s in seconds[1:]]
    return {
        "test": f"{kind}{n_tokens}",
        "tokens_per_second": round(statistics.fmean(speeds), 3),
        "stddev": round(statistics.stdev(speeds) if len(speeds) > 1 else 0.0, 3),
    }


def _prompt(runs: SequenceRuns, token_ids: list[int]) -> None:
    for first in range(0, len(token_ids), PROMPT_CHUNK):
        runs.run([token_ids[first : first + PROMPT_CHUNK]], first, 1)


def _generation(runs: SequenceRuns, token_ids: list[int]) -> None:
    for position, token_id in enumerate(token_ids):
        runs.run([[token_id]], position, 1)


def _timed(work: Callable[[], None]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _print(loaded: LoadedModel, results: list[dict[str, Any]]) -> None:
    out = Console(highlight=False)
    ratio = loaded.weight_bytes / loaded.file_bytes
    out.print(
        f"{loaded.name}: {loaded.weight_bytes / 2**20:.1f} MiB of weights, {ratio:.3f} of the file's bytes"
    )
    out.print(f"{machine_line()}; {backend_line(loaded.ops)}")
    table = Table("test", "tokens/s", "+/-")
    for result in results:
        table.add_row(result["test"], f"{result['tokens_per_second']:.2f}", f"{result['stddev']:.2f}")
    out.print(table)
