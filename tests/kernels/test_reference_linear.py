"""The judges themselves: the fused multiply-add, activation quantization, and how far one and two planes of int8 are
from the truth."""

import ctypes
import ctypes.util

import numpy as np
import pytest

from kernels.quant_tensor import TYPES
from kernels.random_weights import random_weight
from kernels.reference.fma import fma32
from kernels.reference.linear import left_by, linear_exact, linear_int8, quantize_activations
from kernels.reference.ops import ReferenceOps


def libm_fmaf(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    fmaf = ctypes.CDLL(ctypes.util.find_library("m")).fmaf
    fmaf.argtypes, fmaf.restype = [ctypes.c_float] * 3, ctypes.c_float
    return np.array(
        [fmaf(x, y, z) for x, y, z in zip(a.tolist(), b.tolist(), c.tolist(), strict=True)], np.float32
    )


def test_fma32_rounds_once_as_the_c_library_does() -> None:
    """Ties and near-ties, where a double rounding would show, subnormals and large cancellations among them."""
    rng = np.random.default_rng(3)
    n = 20000
    a = rng.integers(-(1 << 12), 1 << 12, n).astype(np.float32)
    b = (1 + rng.integers(0, 1 << 23, n) * 2.0**-23).astype(np.float32)
    c = (rng.integers(-(1 << 24), 1 << 24, n) * 2.0 ** rng.integers(-30, 30, n)).astype(np.float32)
    tiny = np.float32(2.0**-75)
    for x, y, z in ((a, b, c), (a * tiny, b * tiny, c * np.float32(2.0**-149)), (a, b, -(a * b))):
        assert (fma32(x, y, z).view(np.uint32) == libm_fmaf(x, y, z).view(np.uint32)).all()


def test_activations_round_to_even_and_keep_zero_blocks_zero() -> None:
    x = np.zeros((2, 64), np.float32)
    x[0, :4] = [127.0, 0.5, 1.5, -2.5]
    q, dx = quantize_activations(x)
    assert q[0, 0, :4].tolist() == [127, 0, 2, -2]
    assert dx.tolist() == [[1.0, 0.0], [0.0, 0.0]]


@pytest.mark.parametrize("type_name", TYPES)
def test_int8_stays_close_to_the_exact_product(type_name: str) -> None:
    """An int8 activation is off by at most dx / 2 = amax / 254: for Gaussian x about 0.5 % of the output's size,
    three times that for the worst of 280 outputs."""
    rng = np.random.default_rng(5)
    n_in = 768
    data = random_weight(type_name, 40, n_in, rng)
    x = rng.standard_normal((7, n_in)).astype(np.float32)
    exact = linear_exact(x, type_name, data, 40)
    error = np.abs(linear_int8(x, type_name, data, 40) - exact)
    limit = 1e-5 if TYPES[type_name].block_size == 1 else 0.03
    assert error.max() < limit * np.sqrt(np.mean(exact**2))


def test_a_second_plane_holds_what_the_first_leaves() -> None:
    """A plane leaves at most half a step, dx / 2 = amax / 254, of each value; float32 roundings are 2^-24 of amax."""
    x = np.random.default_rng(6).standard_normal((5, 96)).astype(np.float32)
    x[:, 32:64] = 0
    q, dx = quantize_activations(x)
    rest = left_by(x, q, dx)
    largest = np.abs(x.reshape(5, 3, 32)).max(axis=2, keepdims=True)
    assert (np.abs(rest.reshape(5, 3, 32)) <= largest * (1 / 254 + 2**-23)).all()
    assert (
        rest == (x - q.reshape(5, 96) * dx.astype(np.float64).repeat(32, axis=1)).astype(np.float32)
    ).all()
    q2, dx2 = quantize_activations(rest)
    together = q * dx.astype(np.float64)[:, :, None] + q2 * dx2.astype(np.float64)[:, :, None]
    assert (np.abs(together - x.reshape(5, 3, 32)) <= largest * (1 / 254**2 + 2**-22)).all()


@pytest.mark.parametrize("type_name", TYPES)
def test_two_planes_are_a_hundred_times_closer_to_the_exact_product(type_name: str) -> None:
    """254 times by the steps; the sums' own float32 roundings, 1e-6 of the output's size, and the luck of 280 outputs
    take their part."""
    rng = np.random.default_rng(5)
    n_in = 768
    data = random_weight(type_name, 40, n_in, rng)
    x = rng.standard_normal((7, n_in)).astype(np.float32)
    exact = linear_exact(x, type_name, data, 40)
    one, two = (linear_int8(x, type_name, data, 40, planes) for planes in (1, 2))
    size = np.sqrt(np.mean(exact**2))
    if TYPES[type_name].block_size == 1:
        assert (one == two).all(), "float matrices take the activations as they are"
        return
    assert np.abs(two - exact).max() < 2e-4 * size
    rms = [np.sqrt(np.mean((y - exact) ** 2)) for y in (one, two)]
    assert rms[1] < rms[0] / 100


def test_the_reference_has_one_plane_or_two() -> None:
    rng = np.random.default_rng(8)
    data = random_weight("IQ3_KT", 16, 256, rng)
    x = rng.standard_normal((2, 256)).astype(np.float32)
    for planes in (1, 2):
        ops = ReferenceOps(planes)
        weight = ops.load_quant("IQ3_KT", (16, 256), data, frozenset({"linear"}))
        assert (ops.linear(x, weight) == linear_int8(x, "IQ3_KT", data, 16, planes)).all()
    with pytest.raises(ValueError, match="3 planes of activations; there are 1 or 2"):
        ReferenceOps(3)
