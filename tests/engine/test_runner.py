"""One step: which rows are asked for, which are sampled, and what crosses to the host."""

from collections.abc import Callable

import numpy as np

from engine.choice_rows import TokenIds
from engine.kv_cache import KVCache
from engine.request import Request
from engine.runner import Runner
from engine.types import SamplingParams
from engine.work import Work
from kernels.cache_groups import PagedGroup
from kernels.choice_row import Chosen, ChosenTokens
from support.fake_model import N_VOCAB, FakeModel, FakeOps, next_token

BLOCK_SIZE = 4


class SpyingOps(FakeOps):
    """Remembers what the runner did with the backend."""

    def __init__(self) -> None:
        self.n_steps = 0
        self.rows_to_host: list[int] = []  # of choices

    def begin_step(self) -> None:
        self.n_steps += 1

    def fetch_chosen(self, chosen: Chosen, n_rows: int) -> Callable[[], ChosenTokens]:
        self.rows_to_host.append(n_rows)
        return super().fetch_chosen(chosen, n_rows)

    def to_host(self, x: np.ndarray) -> np.ndarray:
        raise AssertionError("logits cross to the host")


def make_runner() -> tuple[Runner, SpyingOps]:
    ops = SpyingOps()
    kv = KVCache([ops.new_cache(PagedGroup(1, 1, 1), 16, BLOCK_SIZE)], 16, BLOCK_SIZE, block_bytes=1)
    return Runner(FakeModel(BLOCK_SIZE), ops, kv, TokenIds(N_VOCAB, frozenset())), ops


def make_request(name: str, n_prompt: int, block_ids: list[int]) -> Request:
    token_ids = [(i * i) % N_VOCAB for i in range(n_prompt)]
    return Request(name, SamplingParams(temperature=0), 0, token_ids, n_prompt, 9, block_ids=block_ids)


def test_only_chunks_that_reach_the_newest_token_are_sampled():
    runner, ops = make_runner()
    long, short, decoding = (
        make_request("l", 9, [5, 1, 7]),
        make_request("s", 3, [2]),
        make_request("d", 6, [3, 0]),
    )
    first = [Work(long, 4), Work(decoding, 5)]
    assert [list(result.token_ids) for result in runner.collect(runner.submit(first))] == [[], []]
    long.n_computed, decoding.n_computed = 4, 5

    second = [Work(long, 3), Work(short, 3), Work(decoding, 1)]
    results = runner.collect(runner.submit(second))
    chosen = [[], [next_token(short.token_ids)], [next_token(decoding.token_ids)]]
    assert [list(result.token_ids) for result in results] == chosen
    assert ops.n_steps == 2
    assert ops.rows_to_host == [2], "nothing is computed or copied for rows that nobody reads"
