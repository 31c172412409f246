"""Philox4x32-10 against the authors' known answers, and the noise built on it."""

import math

import numpy as np
import pytest

from kernels.reference.philox import draw, gumbel, philox4x32, uniforms
from kernels.reference.plain_log import logarithm

#: counter, key, output: kat_vectors of the Random123 distribution, philox4x32 with 10 rounds.
KNOWN_ANSWERS = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


def words(text: str) -> list[int]:
    return [int(word, 16) for word in text.split()]


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN_ANSWERS, ids=["zeros", "ones", "pi"])
def test_known_answers(counter, key, expected):
    got = philox4x32([np.full(1, word, np.uint64) for word in words(counter)], tuple(words(key)))
    assert [int(word[0]) for word in got] == words(expected)


def test_the_layout_is_what_another_backend_must_copy():
    # Token 6 at position 3 reads word 2 of counter (1, 3, choice, 0), keyed by the seed's low and high word.
    seed = 0x0123456789ABCDEF
    counter = [np.full(1, word, np.uint64) for word in (1, 3, 5, 0)]
    word = philox4x32(counter, (0x89ABCDEF, 0x01234567))[2][0]
    got = uniforms(np.array([6]), seed=seed, position=3, choice=5)
    assert got[0] == (int(word) + 0.5) / 2**32


@pytest.mark.parametrize("n_vocab", [1, 2, 4, 5, 1000])
def test_every_subset_sees_the_same_numbers(n_vocab):
    everyone = uniforms(np.arange(n_vocab), seed=2**64 - 1, position=9, choice=0)
    rng = np.random.default_rng(0)
    for _ in range(20):
        subset = np.flatnonzero(rng.random(n_vocab) < rng.random())
        assert np.array_equal(uniforms(subset, seed=2**64 - 1, position=9, choice=0), everyone[subset])


def test_seed_position_and_choice_all_matter():
    at = {"seed": 1, "position": 2, "choice": 3}
    base = uniforms(np.arange(8), **at)
    for name, value in at.items():
        other = uniforms(np.arange(8), **{**at, name: value + 1})
        assert not np.isclose(base, other).any()
    assert not np.isclose(base, uniforms(np.arange(8), **{**at, "seed": 1 + 2**32})).any()


def test_uniforms_are_uniform_and_never_0_or_1():
    u = np.concatenate([uniforms(np.arange(1000), seed=7, position=p, choice=0) for p in range(100)])
    assert u.min() > 0
    assert u.max() < 1
    counts = np.histogram(u, bins=100, range=(0, 1))[0]
    chi_square = ((counts - 1000) ** 2 / 1000).sum()
    assert chi_square < 148.2  # the 99.9 % point for 99 degrees of freedom; the seed is fixed


def test_gumbel_is_finite_at_both_ends_of_the_range():
    ends = np.array([0.5, 2**32 - 0.5]) / 2**32
    assert np.isfinite(-logarithm(-logarithm(ends))).all()
    assert np.isfinite(gumbel(np.arange(1000), seed=0, position=0)).all()


def test_the_logarithm_is_within_4_ulp():
    rng = np.random.default_rng(5)
    x = np.concatenate(
        [rng.uniform(1e-10, 24, 20_000), 1 - rng.random(20_000) * 2.0 ** rng.integers(-40, -1, 20_000)]
    )
    expected = np.array([math.log(v) for v in x])  # the platform's is within 1 ulp
    assert (np.abs(logarithm(x) - expected) <= 5 * np.spacing(np.abs(expected))).all()


@pytest.mark.parametrize("spread", [0.0, 1e-13, 1.0, 1e300])
def test_a_draw_is_the_highest_of_score_and_noise(spread):
    rng = np.random.default_rng(6)
    for seed in range(50):
        token_ids = np.flatnonzero(rng.random(3000) < 0.9)
        scores = -spread * rng.random(len(token_ids))
        scores[rng.random(len(token_ids)) < 0.1] = -np.inf
        expected = token_ids[np.argmax(scores + gumbel(token_ids, seed=seed, position=3))]
        assert draw(token_ids, scores, seed=seed, position=3) == expected
