"""Tokens chosen on the device are those that the reference chooses."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from engine.choice_rows import TokenIds, rows_of
from engine.request import Request
from engine.types import SamplingParams
from kernels.choice_row import Chosen, rate_of
from kernels.cuda import nvrtc
from kernels.ops import Ops
from kernels.reference.masses import masses
from kernels.reference.plain_log import logarithm
from support.choices import choose_tokens, sample
from support.cuda_device import ORDERS, cuda_device, generator, thread_order
from support.cuda_emulator import EMULATOR
from support.sequences import on

GREEDY = Request("r", SamplingParams(temperature=0), 0, [0], 1, 1)
#: Fewer than a block of threads, a block's part (4096) to the value, and several parts with a ragged end.
N_VOCABS = (1, 31, 300, 4096, 4097, 9001)


def rows(n_vocab: int) -> np.ndarray:
    """[n_rows, n_vocab]: random rows, and those that an argmax may get wrong."""
    rng = generator("logits", n_vocab)
    values = rng.normal(0, 4, (12, n_vocab)).astype(np.float32)
    at = rng.integers(0, n_vocab, (12, 3))
    values[1] -= 100  # all below zero
    values[2] = values[2].round()  # ties
    values[3] = 7.5  # nothing but ties
    values[4] = rng.choice([0.0, -0.0], n_vocab)  # equal, other bits
    values[5] = -np.inf
    values[6] = -np.inf
    values[6, at[6, 0]] = -1e30  # one survivor
    values[7, at[7, 0]] = np.inf
    values[8, at[8]] = np.nan  # with either sign, and an infinity beside them
    values[8, at[8, 1]] = -values[8, at[8, 1]]
    values[9, at[9]] = np.inf, np.nan, -np.inf
    values[10] = rng.choice([1e-45, -1e-45, 0.0], n_vocab)  # subnormal
    values[11] = np.where(rng.random(n_vocab) < 0.5, 3e38, -3e38)
    return values


@pytest.mark.parametrize("n_vocab", N_VOCABS)
def test_peaks_are_numpys_in_any_thread_order(cuda_ops: Ops, n_vocab: int) -> None:
    logits = rows(n_vocab)
    best = logits.argmax(axis=1)
    expected = logits[np.arange(len(best)), best]
    for order in ORDERS:
        with thread_order(order):
            cuda_ops.begin_step()
            choices = rows_of([GREEDY] * len(logits), TokenIds(n_vocab, frozenset())).on(
                cuda_ops, cuda_ops.index_array(best)
            )
            got = cuda_ops.fetch_chosen(cuda_ops.choose(on(cuda_ops, logits), choices), len(logits))()
            np.testing.assert_array_equal(got.token_ids, best)
            # Not the NaN's payload or sign: they say the same to every reader.
            np.testing.assert_array_equal(got.highest, expected)


#: Temperatures from one that leaves only the highest logits to the highest allowed; min_p from none to ties only.
TEMPERATURES = (5e-324, 1e-300, 1e-3, 0.7, 1.0, 2.0)
MIN_PS = (0.0, 1e-9, 0.05, 1.0)


@pytest.mark.parametrize("n_vocab", N_VOCABS)
def test_draws_are_the_samplers_in_any_thread_order(cuda_ops: Ops, n_vocab: int) -> None:
    rng = generator("draws", n_vocab)
    requests = []
    for i in range(12 * len(TEMPERATURES)):
        params = SamplingParams(
            temperature=TEMPERATURES[i // 12],
            min_p=MIN_PS[int(rng.integers(len(MIN_PS)))],
            # Two rows of three; one, few, all but one, all, more: of ties at the edge the lower ids stay.
            top_k=int(rng.choice([1, 2, 40, n_vocab // 2, n_vocab - 1, n_vocab, 2**31 - 1])) * bool(i % 3),
        )
        seed = int(rng.integers(0, 1 << 64, dtype=np.uint64))
        requests.append(Request("r", params, seed, [0] * int(rng.integers(1, 1 << 10)), 1, 1))
    logits = np.tile(rows(n_vocab), (len(TEMPERATURES), 1))
    expected = sample(logits, requests)
    for order in ORDERS:
        with thread_order(order):
            assert choose_tokens(cuda_ops, logits, requests) == expected


#: From one that leaves the highest alone to one that leaves all but what the last bits of the sums say.
TOP_PS = (1e-300, 0.1, 0.5, 0.9, 0.999, 1 - 2**-53)


@pytest.mark.parametrize("n_vocab", N_VOCABS)
def test_top_p_leaves_what_the_sampler_leaves(cuda_ops: Ops, n_vocab: int) -> None:
    """With top_k, which comes before it, and min_p, which comes after; ties at the edge go by id."""
    rng = generator("top_p", n_vocab)
    requests = []
    for i in range(12 * len(TOP_PS)):
        params = SamplingParams(
            temperature=float(rng.choice(TEMPERATURES[i // 36 :])),
            top_p=TOP_PS[i // 12],
            top_k=int(rng.choice([0, 0, 1, 40, n_vocab // 2])),
            min_p=float(rng.choice([0, 0, 0, 0.01])),
        )
        seed = int(rng.integers(0, 1 << 64, dtype=np.uint64))
        requests.append(Request("r", params, seed, [0] * int(rng.integers(1, 1 << 10)), 1, 1))
    logits = np.tile(rows(n_vocab), (len(TOP_PS), 1))
    expected = sample(logits, requests)
    for order in ORDERS:
        with thread_order(order):
            assert choose_tokens(cuda_ops, logits, requests) == expected


def changing_requests(rng: np.random.Generator, n: int, n_vocab: int) -> list[Request]:
    """Prompts and answers of few and of hundreds of tokens, many more than once; every kind of change and none."""
    requests = []
    for i in range(n):
        params = SamplingParams(
            temperature=float(rng.choice([0, 0, 0.8])),
            top_p=float(rng.choice([1.0, 0.9])),
            repetition_penalty=float(rng.choice([1.0, 1.3, 0.5, 10.0])),
            frequency_penalty=float(rng.choice([0.0, 0.7, -2.0])),
            presence_penalty=float(rng.choice([0.0, 1.3, -0.4])),
            logit_bias={
                int(t): float(rng.uniform(-9, 9)) for t in rng.integers(0, n_vocab, rng.integers(0, 40))
            },
        )
        n_prompt = int(rng.integers(1, 40))
        token_ids = (n_vocab * rng.random(n_prompt + int(rng.integers(0, 500))) ** 3).astype(int).tolist()
        requests.append(Request("r", params, i, token_ids, n_prompt, 1000))
    return requests


@pytest.mark.parametrize("n_vocab", N_VOCABS)
def test_penalties_and_biases_are_the_samplers(cuda_ops: Ops, n_vocab: int) -> None:
    """Also where a logit is not finite, or becomes so."""
    requests = changing_requests(generator("penalties", n_vocab), 48, n_vocab)
    logits = np.tile(rows(n_vocab), (4, 1))
    expected = sample(logits, requests)
    for order in ORDERS:
        with thread_order(order):
            assert choose_tokens(cuda_ops, logits, requests) == expected


@pytest.mark.parametrize("n_vocab", [31, 4097])
def test_a_token_that_nobody_has_read_is_counted_like_one_that_was(cuda_ops: Ops, n_vocab: int) -> None:
    """Whether it stands in prompt or answer already, has a bias, or is new."""
    rng = generator("unread", n_vocab)
    requests = changing_requests(rng, 48, n_vocab)
    known = np.array([rng.choice(request.token_ids) for request in requests])
    biased = np.array([next(iter(request.params.logit_bias), 0) for request in requests])
    anew = rng.integers(0, n_vocab, len(requests))
    unread = np.choose(rng.integers(0, 3, len(requests)), [known, biased, anew])
    logits = rng.normal(0, 2, (len(requests), n_vocab)).astype(np.float32)
    read = [replace(r, token_ids=[*r.token_ids, int(t)]) for r, t in zip(requests, unread, strict=True)]
    expected = sample(logits, read)
    for order in ORDERS:
        with thread_order(order):
            assert choose_tokens(cuda_ops, logits, requests, unread) == expected


def test_noise_alone_decides_among_equals(cuda_ops: Ops) -> None:
    requests = [Request("r", SamplingParams(), seed, [0] * 5, 1, 1) for seed in range(400)]
    logits = np.zeros((len(requests), 300), np.float32)
    assert choose_tokens(cuda_ops, logits, requests) == sample(logits, requests)


@pytest.mark.parametrize("n", [1, 31, 32, 33, 100])
def test_chosen_ids_become_the_next_passs_tokens(cuda_ops: Ops, n: int) -> None:
    """Rows in any order; a row -1 keeps the host's token; ids are bits, also those that are a NaN's."""
    rng = generator("pass on", n)
    ids = rng.integers(0, 1 << 31, n + 3, dtype=np.int32)
    ids[0] = 0x7FC00001
    rows, own = rng.integers(-1, len(ids), n), rng.integers(0, 100, n)
    pairs = np.stack([np.zeros(len(ids), np.float32), ids.view(np.float32)], axis=1)
    for order in ORDERS:
        with thread_order(order):
            cuda_ops.begin_step()
            chosen, token_ids = Chosen(on(cuda_ops, pairs), None), cuda_ops.index_array(own)
            cuda_ops.pass_on(chosen, cuda_ops.index_array(rows), token_ids)
            got = cuda_ops.to_host(token_ids).view(np.int32)
            np.testing.assert_array_equal(got, np.where(rows < 0, own, ids[rows]))


def test_the_logarithm_has_numpys_bits() -> None:
    rng = generator("logarithms")
    spread = rng.uniform(1, 2, 20_000) * 2.0 ** rng.integers(-1022, 1023, 20_000)
    noise = (
        rng.integers(0, 1 << 32, 20_000) + 0.5
    ) * 2.0**-32  # what draws take it of, and of that once more
    edges = np.array(
        [1.0, 0.5, 2.0, np.sqrt(0.5), np.nextafter(1, 0), np.nextafter(1, 2), 2.0**-33, 1 - 2.0**-33]
    )
    x = np.concatenate([spread, noise, -np.log(noise), edges, np.nextafter(edges, 0)])
    with cuda_device():
        import cupy

        code = nvrtc.compile_cubin(EMULATOR / "arithmetic.cu", (), architecture(cupy)).cubin
        values, results = cupy.asarray(x), cupy.zeros(len(x), np.float64)
        kernel = cupy.RawModule(code=code).get_function("logarithms")
        kernel((-(-len(x) // 32),), (32,), (values, results, np.int32(len(x))))
        got = cupy.asnumpy(results)
    np.testing.assert_array_equal(got.view(np.uint64), logarithm(x).view(np.uint64))


def test_masses_are_numpys() -> None:
    """Integers, and within 3e-7 of the exponential, which is far below what a top_p means."""
    rng = generator("masses")
    below = np.concatenate([-rng.exponential(9, 20_000), [0.0, -0.0, -np.inf, -3e38, -1e-45, -40, -27.8]])
    below = below.astype(np.float32)
    for rate in (rate_of(1.0), rate_of(0.7), rate_of(2.0), rate_of(5e-324)):
        expected = masses(below, rate)
        with cuda_device():
            import cupy

            code = nvrtc.compile_cubin(EMULATOR / "arithmetic.cu", (), architecture(cupy)).cubin
            values, results = cupy.asarray(below), cupy.zeros(len(below), np.uint64)
            kernel = cupy.RawModule(code=code).get_function("masses")
            kernel((-(-len(below) // 32),), (32,), (values, rate, results, np.int32(len(below))))
            got = cupy.asnumpy(results)
        np.testing.assert_array_equal(got, expected)
        with np.errstate(over="ignore"):
            exact = np.exp(below.astype(np.float64) * float(rate)) * 2.0**40
        # 7 float32 roundings, of which that of the exponent counts up to 40 times over; and one integer.
        np.testing.assert_allclose(expected, exact, rtol=4e-6, atol=1)


def architecture(cupy: Any) -> str:
    return f"sm_{cupy.cuda.Device(0).compute_capability}"
