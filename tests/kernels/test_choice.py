"""Choosing tokens: every backend against the judge, and the judge against the tokens of an earlier day."""

import numpy as np

from engine.request import Request
from engine.types import SamplingParams
from support.choices import sample

#: What commit 660583f chose for `frozen_case`: a seed goes on to give the text it gave.
FROZEN = [
    47, 273, 2524, 29, 115, 2522, 41, 300, 2261, 23, 180, 2712, 15, 156, 2939, 24, 132, 1323, 9, 154, 2876, 1, 111,
    3734, 35, 239, 2979, 31, 157, 676, 38, 316, 2997, 36, 2, 1803, 14, 247, 1298, 14, 224, 195, 30, 159, 578, 38, 142,
    1964, 44, 77, 521, 29, 20, 959, 10, 69, 410, 33, 225, 510,
]  # fmt: skip


def frozen_case(i: int) -> tuple[np.ndarray, Request]:
    rng = np.random.default_rng(i)
    n_vocab = (50, 333, 4097)[i % 3]
    row = rng.normal(0, 3, n_vocab).round(2).astype(np.float32)
    params = SamplingParams(
        temperature=(0.0, 0.3, 0.8, 1.0, 2.0)[i % 5],
        top_k=(0, 0, 5, 40)[i % 4],
        top_p=(1.0, 0.9, 0.5)[i // 4 % 3],
        min_p=(0.0, 0.05)[i // 12 % 2],
        repetition_penalty=(1.0, 1.3)[i // 2 % 2],
        frequency_penalty=(0.0, 0.4)[i // 3 % 2],
        presence_penalty=(0.0, 0.0, 0.6)[i % 3],
        logit_bias={int(t): 2.5 for t in rng.integers(0, n_vocab, i % 4)},
    )
    token_ids = rng.integers(0, n_vocab, 30).tolist()
    return row, Request("r", params, i * 0x9E3779B97F4A7C15 % 2**64, token_ids, 10, 99)


def test_a_seed_gives_the_tokens_it_always_gave() -> None:
    cases = [frozen_case(i) for i in range(len(FROZEN))]
    assert [sample(row[None], [request])[0].token_id for row, request in cases] == FROZEN
