"""Tokens per second of several sequences that generate at once, through the whole engine: greedy and with sampling.

The two take turns over one engine, so that a machine that grows slower does so for both.
"""

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from engine import Engine, EngineConfig, LoadedModel, SamplingParams
from tools.cuda_timing import device_of, json_figure

PROMPT_TOKENS = 16  # of each sequence
#: What a client gets that asks for nothing, and the likeliest token.
KINDS = {"greedy": SamplingParams(temperature=0), "sampled": SamplingParams(seed=1)}


@dataclass
class BatchSpeeds:
    """Tokens per second of all sequences together, a number a repetition."""

    n_sequences: int
    n_tokens: int  # of each sequence
    greedy: list[float] = field(default_factory=list)
    sampled: list[float] = field(default_factory=list)

    @property
    def sampling_cost(self) -> float:
        """The share of a greedy step's time that default sampling adds."""
        return statistics.median(self.greedy) / statistics.median(self.sampled) - 1

    def as_json(self) -> dict[str, Any]:
        return {
            "sequences": self.n_sequences,
            "tokens": self.n_tokens,
            "greedy_tokens_per_second": json_figure(statistics.median(self.greedy), 3),
            "sampled_tokens_per_second": json_figure(statistics.median(self.sampled), 3),
            "sampling_cost": json_figure(self.sampling_cost, 4),
        }


def measure_batch(
    loaded: LoadedModel,
    n_sequences: int,
    n_tokens: int,
    repetitions: int,
    kv_type: str,
    report: Callable[[int, int], None],
) -> BatchSpeeds:
    """n_tokens decode steps of n_sequences, `repetitions` times of each kind."""
    ctx_size = PROMPT_TOKENS + n_tokens + 2
    engine = Engine(loaded, EngineConfig(ctx_size=ctx_size, max_batch=n_sequences, kv_type=kv_type))
    speeds = BatchSpeeds(n_sequences, n_tokens)
    device = device_of(loaded.ops)
    means_nothing = device is not None and device.emulated
    for repetition in range(repetitions):
        report(repetition, repetitions)
        for name, params in list(KINDS.items())[:: 1 if repetition % 2 == 0 else -1]:
            seconds = _seconds(engine, params, n_sequences, n_tokens)
            speed = math.nan if means_nothing else n_sequences * n_tokens / seconds
            (speeds.greedy if name == "greedy" else speeds.sampled).append(speed)
    return speeds


def _seconds(engine: Engine, params: SamplingParams, n_sequences: int, n_tokens: int) -> float:
    """Of n_tokens decode steps of sequences that end together, after their prompts and one step to warm up."""
    rng = np.random.default_rng(0)
    answer = replace(params, max_tokens=n_tokens + 2, ignore_eos=True)
    for i in range(n_sequences):
        engine.add(str(i), rng.integers(0, engine.n_vocab, PROMPT_TOKENS).tolist(), answer)
    n_done = 0
    while n_done < 2 * n_sequences:
        n_done += sum(len(event.token_ids) for event in engine.step())
    started = time.perf_counter()
    while engine.has_work:
        engine.step()
    return time.perf_counter() - started
