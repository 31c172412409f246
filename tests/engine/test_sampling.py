"""Sampling against a slow, obvious version, and against what its parameters promise."""

import math
from dataclasses import replace

import numpy as np
import pytest

from engine.choosing import ALL_MASKED, NOT_FINITE
from engine.errors import RequestError
from engine.penalties import KeptChanges
from engine.request import Request
from engine.sampling import resolve_seed, validate
from engine.types import SamplingParams
from kernels.reference.philox import gumbel
from support.choices import sample

N_VOCAB = 40


def make_request(params: SamplingParams, prompt=(1, 2), answer=(), seed=0) -> Request:
    return Request("r", params, seed, [*prompt, *answer], len(prompt), max_new_tokens=99)


def sample_one(row: np.ndarray, params: SamplingParams, **request) -> int:
    (sampled,) = sample(np.asarray(row, np.float32)[None], [make_request(params, **request)])
    assert sampled.error is None
    return sampled.token_id


def obvious_survivors(row: np.ndarray, params: SamplingParams) -> dict[int, float]:
    """{token id: probability} after temperature, top_k, top_p and min_p, by sorting everything."""
    scores = [(float(x) - float(max(row))) / params.temperature for x in row]
    order = sorted(range(len(row)), key=lambda t: (-scores[t], t))
    if params.top_k > 0:
        order = order[: params.top_k]
    weights = {t: math.exp(scores[t]) for t in order}
    mass, total, nucleus = 0.0, sum(weights.values()), []
    for t in order:
        if params.top_p == 1 or mass < params.top_p * total:
            nucleus.append(t)
            mass += weights[t]
    kept = {t: weights[t] for t in nucleus if weights[t] >= params.min_p}
    return {t: weight / sum(kept.values()) for t, weight in kept.items()}


def random_params(rng: np.random.Generator) -> SamplingParams:
    return SamplingParams(
        temperature=float(rng.choice([0.3, 0.8, 1.0, 2.0])),
        top_k=int(rng.choice([-1, 0, 1, 3, N_VOCAB - 1, N_VOCAB, 999])),
        top_p=float(rng.choice([1e-9, 0.1, 0.5, 0.9, 0.999999, 1.0])),
        min_p=float(rng.choice([0.0, 0.01, 0.2, 1.0])),
    )


@pytest.mark.parametrize("seed", range(100))
def test_a_draw_is_the_gumbel_argmax_over_the_obvious_survivors(seed):
    rng = np.random.default_rng(seed)
    # Rounded logits: many exact ties, which the rules give to the lower id.
    row = rng.normal(0, 3, N_VOCAB).round(0 if seed % 2 else 6).astype(np.float32)
    params = random_params(rng)
    kept = obvious_survivors(row, params)
    noise = gumbel(np.arange(N_VOCAB), seed=seed, position=2)
    expected = max(sorted(kept), key=lambda t: float(row[t]) / params.temperature + noise[t])
    assert sample_one(row, params, seed=seed) == expected


@pytest.mark.parametrize(
    "params",
    [
        SamplingParams(),
        SamplingParams(temperature=0.7, top_k=6),
        SamplingParams(temperature=1.5, top_p=0.8),
        SamplingParams(min_p=0.05),
        SamplingParams(temperature=0.8, top_k=12, top_p=0.9, min_p=0.05),
    ],
    ids=str,
)
def test_draws_follow_the_distribution(params):
    n_draws = 4000
    row = np.linspace(0, 3, 16, dtype=np.float32)[np.random.default_rng(3).permutation(16)]
    expected = obvious_survivors(row, params)
    assert len(expected) > 4
    requests = [make_request(params, seed=seed) for seed in range(n_draws)]
    drawn = [sampled.token_id for sampled in sample(np.tile(row, (n_draws, 1)), requests)]
    assert set(drawn) <= set(expected)
    chi_square = sum((drawn.count(t) - n_draws * p) ** 2 / (n_draws * p) for t, p in expected.items())
    # Mean and deviation of chi-square are n - 1 and sqrt(2 (n - 1)); five deviations, fixed seeds.
    freedom = len(expected) - 1
    assert chi_square < freedom + 5 * math.sqrt(2 * freedom)


def test_greedy_takes_the_highest_and_the_lower_id_of_equals():
    row = np.zeros(N_VOCAB)
    row[[7, 9]] = 2
    assert sample_one(row, SamplingParams(temperature=0)) == 7


def test_the_smallest_temperature_is_greedy():
    row = np.random.default_rng(0).normal(0, 1, N_VOCAB)
    assert sample_one(row, SamplingParams(temperature=5e-324)) == row.argmax()


def test_repetition_penalty_pulls_towards_zero_on_prompt_and_answer():
    row = np.full(N_VOCAB, -9.0)
    row[[1, 5, 8]] = 3.0, 2.9, 1.6
    greedy = SamplingParams(temperature=0)
    assert sample_one(row, greedy) == 1
    doubled = replace(greedy, repetition_penalty=2.0)
    assert sample_one(row, doubled) == 5, "1 is in the prompt: 3.0 / 2"
    assert sample_one(row, doubled, answer=[5, 5, 5]) == 8, "5 once, however often it was seen: 2.9 / 2"
    below = np.full(N_VOCAB, -3.0)
    below[1] = -2.0
    assert sample_one(below, doubled) == 0, "a negative logit is multiplied: -4"


def test_frequency_counts_and_presence_does_not_and_both_ignore_the_prompt():
    row = np.zeros(N_VOCAB)
    row[[1, 5, 8]] = 3.0, 2.5, 2.0
    frequency = SamplingParams(temperature=0, frequency_penalty=0.4)
    presence = SamplingParams(temperature=0, presence_penalty=0.4)
    for params in (frequency, presence):
        assert sample_one(row, params, prompt=[1, 1, 1, 1]) == 1
        assert sample_one(row, params, answer=[1]) == 1
    assert sample_one(row, frequency, answer=[1, 1]) == 5
    assert sample_one(row, presence, answer=[1, 1, 1, 1]) == 1
    assert sample_one(row, frequency, answer=[1, 1, 1, 5, 5]) == 8
    assert sample_one(row, replace(frequency, frequency_penalty=-1.0), answer=[8, 8]) == 8


def test_logit_bias_comes_after_the_penalties():
    row = np.zeros(N_VOCAB)
    row[1] = 4.0
    params = SamplingParams(temperature=0, repetition_penalty=2.0, logit_bias={6: 2.5})
    assert sample_one(row, params) == 6, "2 + 0 against 0 + 2.5"
    assert sample_one(row, replace(params, logit_bias={6: 1.5})) == 1
    assert sample_one(row, SamplingParams(temperature=0, logit_bias={1: -100})) == 0


@pytest.mark.parametrize(
    "params",
    [
        SamplingParams(repetition_penalty=1.3),
        SamplingParams(frequency_penalty=0.5),
        SamplingParams(logit_bias={3: 1.0, 90: -2.0}),
        SamplingParams(repetition_penalty=0.7, presence_penalty=-1, logit_bias={3: 1.0, 90: -2.0}),
    ],
    ids=str,
)
def test_changes_counted_token_by_token_are_those_counted_at_once(params):
    """Few distinct tokens and hundreds, so that what is kept grows; also several tokens between two looks."""
    rng = np.random.default_rng(8)
    kept = make_request(params, prompt=rng.integers(0, 100, 20).tolist())
    changes = KeptChanges(kept, ())
    for _ in range(300):
        kept.token_ids += rng.integers(0, 400, rng.integers(1, 4)).tolist()
        anew = make_request(params, kept.token_ids[:20], kept.token_ids[20:])
        got, expected = changes.of(kept, 0), KeptChanges(anew, ()).of(anew, 0)
        assert np.array_equal(got[np.argsort(got["token_id"])], expected)
        assert np.signbit(got["bias"][got["bias"] == 0]).all(), "+0 would change the sign of a zero"


def test_sampling_leaves_the_logits_alone():
    logits = np.random.default_rng(0).normal(0, 1, (1, N_VOCAB)).astype(np.float32)
    before = logits.copy()
    params = SamplingParams(repetition_penalty=1.5, presence_penalty=1, logit_bias={3: 5}, top_k=4)
    sample(logits, [make_request(params, answer=[4])])
    assert np.array_equal(logits, before)


def test_a_seed_gives_the_same_tokens_alone_and_among_others():
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 1, (8, N_VOCAB)).astype(np.float32)
    requests = [make_request(random_params(rng), seed=i) for i in range(8)]
    together = sample(logits, requests)
    assert [sample(logits[i : i + 1], [request])[0] for i, request in enumerate(requests)] == together


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize(
    ("bad", "expected"),
    [([np.nan], NOT_FINITE), ([np.inf], NOT_FINITE), (np.full(N_VOCAB, -np.inf), ALL_MASKED)],
    ids=["nan", "inf", "all masked"],
)
def test_a_bad_row_is_an_error_of_its_own(bad, expected, temperature):
    logits = np.random.default_rng(0).normal(0, 1, (3, N_VOCAB)).astype(np.float32)
    requests = [make_request(SamplingParams(temperature=temperature), seed=i) for i in range(3)]
    good = sample(logits, requests)
    logits[1, : len(bad)] = bad
    assert sample(logits, requests) == [good[0], expected, good[2]]


@pytest.mark.parametrize("temperature", [0.0, 1.0, 2.0])
def test_masked_tokens_are_never_drawn(temperature):
    row = np.full(N_VOCAB, -np.inf)
    row[[4, 11]] = 0.0
    params = SamplingParams(temperature=temperature)
    assert {sample_one(row, params, seed=seed) for seed in range(50)} <= {4, 11}


def test_seeds_wrap_to_64_bits_and_are_drawn_when_absent():
    assert resolve_seed(5) == 5
    assert resolve_seed(-1) == resolve_seed(2**64 - 1) == 2**64 - 1
    assert resolve_seed(None) != resolve_seed(None)


GOOD = [
    {"temperature": 0}, {"temperature": 2}, {"temperature": 2.01}, {"temperature": 1e308}, {"temperature": 7},
    {"top_p": 1e-9}, {"top_p": 0}, {"top_p": 1}, {"min_tokens": 5}, {"min_tokens": 5, "max_tokens": 5},
    {"logprobs": 0}, {"logprobs": 20}, {"allowed_token_ids": frozenset({0, N_VOCAB - 1})},
    {"stop_token_ids": frozenset({0, N_VOCAB - 1})},
    {"sampler_order": ("min_p", "top_p", "top_k", "temperature")}, {"top_k": -1}, {"min_p": 1.0}, {"max_tokens": 0},
    {"seed": -(2**63)}, {"seed": 2**64 - 1}, {"repetition_penalty": 0.5}, {"repetition_penalty": 1e-3},
    {"frequency_penalty": -2.0},
    {"logit_bias": {0: -100, N_VOCAB - 1: 100.0}},
]  # fmt: skip
BAD = [
    *({"temperature": x} for x in (-0.1, math.nan, math.inf, True, "1", None, 10**400)),
    *({"top_p": x} for x in (-1e-9, -1, 1.01, math.nan)), *({"min_p": x} for x in (-0.1, 1.1, math.nan)),
    *({"top_k": x} for x in (-2, 2**31, 1.0, True)), *({"max_tokens": x} for x in (-1, 2**31, 1.5, True)),
    *({"seed": x} for x in (-(2**63) - 1, 2**64, 1.5, True)),
    *({"repetition_penalty": x} for x in (0, 5e-324, 9e-4, -1, 10.5, math.nan)),
    *({"frequency_penalty": x} for x in (-2.1, 2.1, math.inf)),
    *({"presence_penalty": x} for x in (3, math.nan)),
    *({"min_tokens": x} for x in (-1, 2**31, 1.0, True)), *({"logprobs": x} for x in (-1, 21, 1.0, True)),
    *({"stop_token_ids": frozenset(x)} for x in ((-1,), (N_VOCAB,), range(129))),
    *({"allowed_token_ids": frozenset(x)} for x in ((), (-1,), (N_VOCAB,), (3, True), ("3",))),
    *({"sampler_order": x} for x in ((), ("top_k",), ("top_k",) * 4, ("temperature", "top_k", "top_p", "typical_p"))),
    *({"logit_bias": x} for x in (
        {-1: 0}, {N_VOCAB: 0}, {"3": 0}, {True: 0}, {3: 101}, {3: -101}, {3: math.nan}, {3: None},
        dict.fromkeys(range(1025), 0),
    )),
]  # fmt: skip


@pytest.mark.parametrize("fields", GOOD, ids=str)
def test_values_in_range_are_accepted(fields):
    validate(SamplingParams(**fields), N_VOCAB)


def test_more_tokens_at_least_than_at_most_are_refused():
    with pytest.raises(RequestError) as caught:
        validate(SamplingParams(max_tokens=4, min_tokens=5), N_VOCAB)
    assert caught.value.param == "min_tokens"


@pytest.mark.parametrize("fields", BAD, ids=lambda fields: str(fields)[:40])
def test_values_out_of_range_are_refused_by_name(fields):
    (name,) = fields
    with pytest.raises(RequestError) as caught:
        validate(SamplingParams(**fields), N_VOCAB)
    assert caught.value.param == name
    assert name in str(caught.value)
    assert len(str(caught.value)) < 200
