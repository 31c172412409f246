"""Choosing tokens: every backend against the judge, and the judge against the tokens of an earlier day."""

from collections.abc import Iterator

import numpy as np
import pytest

from engine.request import Request
from engine.types import SamplingParams
from kernels import load_backend
from kernels.cpu import _native
from kernels.cpu.ops import CpuOps
from kernels.ops import Ops
from support.choices import REFERENCE, sample
from support.cuda_device import cuda_device, generator
from support.random_choices import chosen_by, differences, random_choices

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


#: Less than a vector, a block of 64 tokens and a word of the mask to the token, and more, with ragged ends.
N_VOCABS = (1, 2, 15, 16, 31, 32, 33, 63, 64, 65, 300, 1000, 4099)
TIERS = _native.isa_tiers()


@pytest.fixture(params=[*TIERS, "cuda"])
def backend(request: pytest.FixtureRequest) -> Iterator[Ops]:
    """Every backend but the judge, and the CPU's on every tier."""
    if request.param != "cuda":
        yield CpuOps(threads=2, isa=request.param)
        return
    with cuda_device():
        yield load_backend("cuda")


def check(ops: Ops, n_rows: int, n_vocab: int, seed: int) -> None:
    case = random_choices(generator("choices", n_vocab, seed), n_rows, n_vocab)
    assert differences(ops, REFERENCE, case) == []


@pytest.mark.parametrize("n_vocab", N_VOCABS)
def test_every_backend_gives_the_judges_tokens_and_logprobs(backend: Ops, n_vocab: int) -> None:
    """All samplers in all orders, changes, masks, ties, zeros, infinities, NaNs: each bit of each answer."""
    check(backend, 30, n_vocab, 0)


@pytest.mark.slow
@pytest.mark.parametrize("n_vocab", [*N_VOCABS, 32_000, 152_064])
def test_ten_thousand_rows_are_the_judges(backend: Ops, n_vocab: int) -> None:
    for seed in range(8 if n_vocab < 10_000 else 1):
        check(backend, 100 if n_vocab < 10_000 else 40, n_vocab, seed + 1)


def test_logits_stay_as_the_model_gave_them(ops: Ops) -> None:
    """Other rows are read from them later, and log-probabilities are those of the model."""
    case = random_choices(generator("unchanged"), 20, 100)
    assert len(case.changes) > 20
    got = chosen_by(ops, case)
    bare = case._replace(changes=case.changes[:0], starts=np.zeros_like(case.starts))
    bare.rows["has_mask"], bare.rows["n_unread"] = 0, 0
    assert got.top_logprobs is not None
    np.testing.assert_array_equal(got.top_logprobs.copy(), chosen_by(ops, bare).top_logprobs)


def test_logprobs_are_those_of_a_softmax() -> None:
    """In float64 by another way; 1e-6 is the rounding of a float32 near 8."""
    case = random_choices(generator("softmax"), 1, 5000)
    case.logits[0] = generator("softmax", 1).normal(0, 3, 5000)
    case.rows["wants_logprob"], case.rows["n_top_logprobs"] = 1, 20
    chosen = chosen_by(REFERENCE, case)
    assert chosen.logprobs is not None
    assert chosen.top_ids is not None
    assert chosen.top_logprobs is not None
    exact = case.logits[0] - np.log(np.exp(case.logits[0].astype(np.float64)).sum())
    assert chosen.top_ids[0].tolist() == np.argsort(-exact)[:20].tolist()
    np.testing.assert_allclose(chosen.top_logprobs[0], exact[chosen.top_ids[0]], rtol=0, atol=1e-6)
    np.testing.assert_allclose(chosen.logprobs[0], exact[chosen.token_ids[0]], rtol=0, atol=1e-6)
