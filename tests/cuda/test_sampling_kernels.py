"""Tokens chosen on the device are those that engine/sampling.py chooses."""

from typing import Any

import numpy as np
import pytest

from engine.choosing import draws_of
from engine.plain_log import logarithm
from engine.request import Request
from engine.sampling import of_peak, sample
from engine.types import SamplingParams
from kernels.cuda import nvrtc
from kernels.ops import Ops
from support.cuda_device import ORDERS, cuda_device, generator, thread_order
from support.cuda_emulator import EMULATOR
from support.sequences import on

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


def chosen(ops: Ops, logits: np.ndarray, draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The highest logits and the ids."""
    ops.begin_step()
    assert ops.chooser is not None
    pairs = ops.to_host(ops.chooser.choose(on(ops, logits), on(ops, draws)))
    return pairs[:, 0].copy(), pairs[:, 1].view(np.int32).copy()


@pytest.mark.parametrize("n_vocab", N_VOCABS)
def test_peaks_are_numpys_in_any_thread_order(cuda_ops: Ops, n_vocab: int) -> None:
    logits = rows(n_vocab)
    best = logits.argmax(axis=1)
    expected = logits[np.arange(len(best)), best]
    for order in ORDERS:
        with thread_order(order):
            peaks, ids = chosen(cuda_ops, logits, np.zeros((len(logits), 8), np.int32))
            np.testing.assert_array_equal(ids, best)
            # Not the NaN's payload or sign: they say the same to whoever reads them.
            np.testing.assert_array_equal(peaks, expected)


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
            pairs = zip(*chosen(cuda_ops, logits, draws_of(requests)), strict=True)
            assert [of_peak(int(token_id), float(peak)) for peak, token_id in pairs] == expected


def test_noise_alone_decides_among_equals(cuda_ops: Ops) -> None:
    requests = [Request("r", SamplingParams(), seed, [0] * 5, 1, 1) for seed in range(3000)]
    logits = np.zeros((len(requests), 300), np.float32)
    expected = [sampled.token_id for sampled in sample(logits, requests)]
    assert chosen(cuda_ops, logits, draws_of(requests))[1].tolist() == expected


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
            assert cuda_ops.chooser is not None
            chosen, token_ids = on(cuda_ops, pairs), cuda_ops.index_array(own)
            cuda_ops.chooser.pass_on(chosen, cuda_ops.index_array(rows), token_ids)
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


def architecture(cupy: Any) -> str:
    return f"sm_{cupy.cuda.Device(0).compute_capability}"
