"""`espalier bench`: tokens per second of a prompt and of generation, as the peer's llama-bench defines them.

Figures are medians and deviations of whole repetitions. With --peer each repetition is followed, or preceded, by one
of the peer's on the same file, so that a machine that grows slower does so for both. A second table says where a
decode step's time goes (tools/cpu_profile.py, tools/cuda_profile.py), and with --batch a third one what sampling
costs several sequences that generate at once (tools/batch_speed.py).
"""

import json as jsonlib
import math
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from engine import EspalierError, LoadedModel, load_model, synthetic_model
from tools.backends import backend_line, checked_kv_type, machine_line, open_backend
from tools.batch_speed import BatchSpeeds, measure_batch
from tools.cpu_profile import CpuStepProfile, print_cpu_profile, profile_cpu_step
from tools.cuda_profile import StepProfile, print_profile, profile_step
from tools.cuda_timing import device_of, figure, json_figure
from tools.peer_bench import PeerBench, find_llama_bench, peer_options
from tools.progress import progress_bar
from tools.speed_tests import SpeedRuns, SpeedTest
from tools.synthetic_file import write_synthetic
from tools.terminal import plain, printable


@dataclass(frozen=True)
class BenchOptions:
    """What was asked for. Raises EspalierError for what cannot be."""

    model: Path | None
    synthetic: tuple[str, str] | None  # shape and type
    n_prompt: int
    n_gen: int
    depth: int
    repetitions: int
    kv_type: str
    device: str
    threads: int | None
    activations: int
    peer: Path | None
    json: bool
    attention: str = "exact"
    batch: int = 0  # sequences that generate at once; 0: no such test

    def __post_init__(self) -> None:
        if (self.model is None) == (self.synthetic is None):
            raise EspalierError("bench needs either MODEL.gguf or --synthetic SHAPE TYPE")
        if min(self.n_prompt, self.n_gen) < 0 or self.n_prompt + self.n_gen == 0 or self.repetitions < 1:
            raise EspalierError("bench needs -p or -n above zero and -r of at least 1")
        if self.batch < 0 or (self.batch and not self.n_gen):
            raise EspalierError("--batch is the sequences that generate at once; it needs -n above zero")
        if self.depth < 0:
            raise EspalierError(
                f"--depth is {self.depth}; it is the tokens cached before each test, 0 or more"
            )
        if self.peer is not None and self.device == "reference":
            raise EspalierError("--peer compares with --device cpu or cuda; the reference is NumPy")
        checked_kv_type(self.kv_type)

    @property
    def tests(self) -> list[SpeedTest]:
        kinds = (("pp", self.n_prompt), ("tg", self.n_gen))
        return [SpeedTest(kind, n, self.depth) for kind, n in kinds if n]


@dataclass
class Speeds:
    """Tokens per second of one test, a number a repetition. peer: empty where it was not run."""

    test: SpeedTest
    ours: list[float]
    peer: list[float]

    def as_json(self) -> dict[str, Any]:
        result = {"test": self.test.name, **_summary("", self.ours)}
        if self.peer:
            ratio = statistics.median(self.ours) / statistics.median(self.peer)
            result |= {**_summary("peer_", self.peer), "ratio": json_figure(ratio, 3)}
        return result


def run(options: BenchOptions) -> None:
    program = find_llama_bench(options.peer) if options.peer else None
    ops = open_backend(options.device, options.threads, options.activations, options.attention)
    with _model_file(options, needed=program is not None) as path:
        loaded = _load(path, options.synthetic, ops)
        _check_context(loaded, options)
        peer = PeerBench(program, path, peer_options(ops, options.kv_type)) if program and path else None
        results, profile = _measure(loaded, options, peer)
        batch = _measure_batch(loaded, options)
    _print(loaded, results, profile)
    if batch:
        _print_batch(batch)
    if options.json:
        as_json: dict[str, Any] = {"results": [result.as_json() for result in results]}
        as_json |= {"decode_step": profile.as_json()} if profile else {}
        print(jsonlib.dumps(as_json | ({"batch": batch.as_json()} if batch else {})))


def write(options: BenchOptions, path: Path) -> None:
    """--write: the synthetic model as a file, and nothing measured."""
    if options.synthetic is None or options.peer is not None:
        raise EspalierError(
            "--write makes a file of --synthetic SHAPE TYPE and measures nothing, so no --peer"
        )
    with progress_bar(f"writing {path.name}") as report:
        write_synthetic(path, *options.synthetic, report)
    print(f"{printable(str(path))}: {path.stat().st_size / 2**20:.1f} MiB")


@contextmanager
def _model_file(options: BenchOptions, needed: bool) -> Iterator[Path | None]:
    """The file to measure; a synthetic model has one only where another program needs it, and only meanwhile."""
    if options.synthetic is None or not needed:
        yield options.model
        return
    with tempfile.TemporaryDirectory(prefix="espalier-bench-") as folder:
        path = Path(folder) / f"{'-'.join(options.synthetic)}.gguf"
        with progress_bar("writing the model") as report:
            write_synthetic(path, *options.synthetic, report)
        yield path


def _load(path: Path | None, synthetic: tuple[str, str] | None, ops: Any) -> LoadedModel:
    with progress_bar("loading" if path else "making the model") as report:
        if path is not None:
            return load_model(path, ops, progress=report)
        assert synthetic is not None
        try:
            return synthetic_model(*synthetic, ops, report)
        except (ValueError, MemoryError) as error:
            raise EspalierError(f"--synthetic: {error}") from None


def _check_context(loaded: LoadedModel, options: BenchOptions) -> None:
    n = options.depth + max(options.n_prompt, options.n_gen)
    if n > loaded.config.n_ctx_max:
        raise EspalierError(f"{n} tokens do not fit the model's context of {loaded.config.n_ctx_max}")


def _measure(
    loaded: LoadedModel, options: BenchOptions, peer: PeerBench | None
) -> tuple[list[Speeds], StepProfile | CpuStepProfile | None]:
    runs = SpeedRuns(loaded, max(options.n_prompt, options.n_gen), options.depth, options.kv_type)
    results = [Speeds(test, [], []) for test in options.tests]
    n_steps = len(results) * options.repetitions
    with progress_bar("measuring") as report:
        runs.fill_context()
        for repetition in range(options.repetitions):
            for i, speeds in enumerate(results):
                report(repetition * len(results) + i, n_steps)
                _repeat(repetition, runs, speeds, peer)
    return results, _step_profile(loaded, options, runs) if options.n_gen else None


def _measure_batch(loaded: LoadedModel, options: BenchOptions) -> BatchSpeeds | None:
    if not options.batch:
        return None
    with progress_bar(f"measuring {options.batch} sequences at once") as report:
        sizes = (options.batch, options.n_gen, options.repetitions)
        return measure_batch(loaded, *sizes, options.kv_type, report)


def _step_profile(
    loaded: LoadedModel, options: BenchOptions, runs: SpeedRuns
) -> StepProfile | CpuStepProfile | None:
    """None for the reference backend, whose speed nobody asks about."""
    if loaded.ops.name == "cpu":
        return profile_cpu_step(runs, loaded.ops, options.depth)
    device = device_of(loaded.ops)
    if device is None:
        return None
    with progress_bar("timing the kernels of a decode step") as report:
        report(0, 1)
        return profile_step(loaded, device, options.depth, options.kv_type)


def _repeat(repetition: int, runs: SpeedRuns, speeds: Speeds, peer: PeerBench | None) -> None:
    """One of ours and, where the peer has the test, one of the peer's; who goes first changes each time."""
    test, of_peer = speeds.test, speeds.test.of_peer()
    in_turns = peer is not None and of_peer is not None

    def ours() -> None:
        if repetition == 0 or in_turns:  # the peer's run leaves nothing of ours in the caches
            runs.warm_up(test)
        speed = runs.tokens_per_second(test)
        speeds.ours.append(math.nan if runs.emulated else speed)

    def theirs() -> None:
        if peer is not None and of_peer is not None:
            speeds.peer.append(peer.run(of_peer))

    for turn in (ours, theirs) if repetition % 2 == 0 else (theirs, ours):
        turn()


def _summary(prefix: str, speeds: list[float]) -> dict[str, float | None]:
    """None for figures of an emulated device."""
    deviation = float(np.std(speeds, ddof=1)) if len(speeds) > 1 else 0.0
    return {
        f"{prefix}tokens_per_second": json_figure(statistics.median(speeds), 3),
        f"{prefix}stddev": json_figure(deviation, 3),
    }


def _print(loaded: LoadedModel, results: list[Speeds], profile: StepProfile | CpuStepProfile | None) -> None:
    out = Console(highlight=False)
    ratio = loaded.weight_bytes / loaded.file_bytes
    mib = loaded.weight_bytes / 2**20
    out.print(plain(f"{loaded.name}: {mib:.1f} MiB of weights, {ratio:.3f} of the file's bytes"))
    out.print(plain(f"{machine_line()}; {backend_line(loaded.ops)}"))
    columns = ["test", "tokens/s", "+/-"]
    if any(speeds.peer for speeds in results):
        columns += ["the peer", "+/-", "ratio"]
    table = Table(*columns)
    for figures in (speeds.as_json() for speeds in results):
        table.add_row(*(_cell(value) for value in figures.values()))
    out.print(table)
    if isinstance(profile, CpuStepProfile):
        print_cpu_profile(profile, out)
    elif profile:
        print_profile(profile, out)


def _print_batch(batch: BatchSpeeds) -> None:
    table = Table(f"{batch.n_sequences} sequences, {batch.n_tokens} tokens of each", "tokens/s", "+/-")
    for name, speeds in (("greedy", batch.greedy), ("default sampling", batch.sampled)):
        median, deviation = _summary("", speeds).values()
        table.add_row(name, _cell(median), _cell(deviation))
    cost = figure(100 * batch.sampling_cost, ".1f")
    table.caption = f"default sampling adds {cost} % to a step"
    Console(highlight=False).print(table)


def _cell(value: str | float | None) -> str:
    return value if isinstance(value, str) else figure(math.nan if value is None else value, ".2f")
