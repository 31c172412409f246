"""The highest logit of each row, found on the device, is where NumPy's argmax finds it."""

import numpy as np
import pytest

from kernels.ops import Ops
from support.cuda_device import ORDERS, generator, thread_order
from support.sequences import on

#: Fewer than a block of threads, a block's part (4096) to the value, and several parts with a ragged end.
N_VOCABS = (1, 31, 300, 4096, 4097, 9001)


def rows(n_vocab: int) -> np.ndarray:
    """[n_rows, n_vocab]: random rows, and those that an argmax may get wrong."""
    rng = generator("peaks", n_vocab)
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
            on_device = on(cuda_ops, logits)
            got = cuda_ops.to_host(cuda_ops.peaks(on_device))
            np.testing.assert_array_equal(got[:, 1].view(np.int32), best)
            # Not the NaN's payload or sign: they say the same to whoever reads them.
            np.testing.assert_array_equal(got[:, 0], expected)
