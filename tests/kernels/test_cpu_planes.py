"""Two planes of activations on the CPU: the reference's bits on every tier, in every form of a linear, in any batch.

What does not depend on the planes is in test_cpu_linear.py.
"""

from functools import cache

import numpy as np
import pytest

from kernels.cpu import _native
from kernels.cpu.ops import CpuOps
from kernels.quant_tensor import TYPES
from kernels.random_weights import random_weight
from kernels.reference.formats import DENSE
from kernels.reference.linear import linear_int8

TIERS = _native.isa_tiers()
#: Twice as many columns: around the groups of 2, 4 and 12, one of which a last pair fills or begins.
BATCHES = (1, 2, 3, 5, 6, 7, 13)
LINEAR = frozenset({"linear"})


@pytest.fixture(scope="module", params=TIERS)
def tier_ops(request: pytest.FixtureRequest) -> CpuOps:
    return CpuOps(threads=2, isa=request.param, planes=2)


@cache
def case(type_name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """File bytes of a matrix of 37 rows, activations, and the reference's results: the same for every tier.

    The last tile is half full, and the last 256 columns where the type allows it.
    """
    rng = np.random.default_rng([2, *type_name.encode()])
    n_in = {1: 413, 32: 800, 256: 768}[TYPES[type_name].row_multiple]
    data = random_weight(type_name, 37, n_in, rng)
    x = rng.standard_normal((max(BATCHES), n_in)).astype(np.float32)
    x *= np.float32(10.0) ** rng.integers(-3, 4, (len(x), 1)).astype(np.float32)
    x[:, 32:64] = 0
    x[::3, 5] *= 100
    x[:, 64:96] = np.rint(x[:, 64:96])  # values of which a first plane may leave nothing
    return data, x, linear_int8(x, type_name, data, 37, planes=2)


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    return bool((a.view(np.uint32) == b.view(np.uint32)).all())


@pytest.mark.parametrize("type_name", TYPES)
def test_equals_the_reference_bit_for_bit_in_any_company(tier_ops: CpuOps, type_name: str) -> None:
    data, x, expected = case(type_name)
    weight = tier_ops.load_quant(type_name, (37, x.shape[1]), data, LINEAR)
    for n in BATCHES:
        assert same_bits(tier_ops.linear(x[:n].copy(), weight), expected[:n]), f"the first {n}"
    for token in range(len(x)):
        alone = tier_ops.linear(x[token : token + 1].copy(), weight)
        assert same_bits(alone, expected[token : token + 1]), f"token {token} alone"


@pytest.mark.parametrize("n_blocks", [1, 2, 5, 8, 9])
def test_any_number_of_32_blocks_keeps_the_chain_order(tier_ops: CpuOps, n_blocks: int) -> None:
    rng = np.random.default_rng(n_blocks)
    data = random_weight("Q8_0", 18, 32 * n_blocks, rng)
    weight = tier_ops.load_quant("Q8_0", (18, 32 * n_blocks), data, LINEAR)
    x = rng.standard_normal((14, 32 * n_blocks)).astype(np.float32)
    expected = linear_int8(x, "Q8_0", data, 18, planes=2)
    for n in (1, 14):
        assert same_bits(tier_ops.linear(x[:n].copy(), weight), expected[:n])


@pytest.mark.parametrize("type_name", ["IQ2_KT", "IQ4_K", "F16"])
@pytest.mark.parametrize("n_out", [1, 16, 300])
def test_row_counts_and_threads_do_not_change_a_bit(type_name: str, n_out: int) -> None:
    rng = np.random.default_rng(n_out)
    data = random_weight(type_name, n_out, 512, rng)
    x = rng.standard_normal((5, 512)).astype(np.float32)
    expected = linear_int8(x, type_name, data, n_out, planes=2)
    for threads in (1, 2, 3):
        ops = CpuOps(threads=threads, planes=2)
        weight = ops.load_quant(type_name, (n_out, 512), data, LINEAR)
        assert same_bits(ops.linear(x, weight), expected)


@pytest.mark.parametrize("n", [1, 2, 6, 13])
@pytest.mark.parametrize("types", [("IQ2_KT", "IQ4_K"), ("F16", "IQ3_KT"), ("BF16", "F32")])
def test_residuals_gates_and_neighbours_come_after_the_sum_of_the_planes(
    tier_ops: CpuOps, types: tuple[str, str], n: int
) -> None:
    """Matrices of float and of int8 activations beside each other among them."""
    rng = np.random.default_rng(n)
    files = [random_weight(name, 150, 512, rng) for name in types]
    gate, up = (
        tier_ops.load_quant(name, (150, 512), data, LINEAR) for name, data in zip(types, files, strict=True)
    )
    x = rng.standard_normal((n, 512)).astype(np.float32)
    residual = rng.standard_normal((n, 150)).astype(np.float32)
    products = [linear_int8(x, name, data, 150, planes=2) for name, data in zip(types, files, strict=True)]
    for got, expected in zip(tier_ops.linear_many(x, [gate, up]), products, strict=True):
        assert same_bits(got, expected)
    assert same_bits(tier_ops.linear_add(x, up, residual), residual + products[1])
    assert same_bits(tier_ops.gated_linear(x, gate, up), tier_ops.silu_mul(*products))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_token_that_is_not_finite_fails_alone(tier_ops: CpuOps, bad: float) -> None:
    data, x, expected = case("IQ4_KT")
    weight = tier_ops.load_quant("IQ4_KT", (37, x.shape[1]), data, LINEAR)
    x = x.copy()
    x[2, 77] = bad
    got = tier_ops.linear(x, weight)
    others = [token for token in range(len(x)) if token != 2]
    assert np.isnan(got[2]).all()
    assert same_bits(got[others], expected[others])


@pytest.mark.parametrize("size", [1e-44, 1e-37, 1e30])
def test_the_smallest_and_largest_activations_are_the_references(tier_ops: CpuOps, size: float) -> None:
    """What the first plane leaves may be subnormal, or too small for a second plane."""
    rng = np.random.default_rng(3)
    data = random_weight("Q8_0", 16, 256, rng)
    weight = tier_ops.load_quant("Q8_0", (16, 256), data, LINEAR)
    x = (rng.standard_normal((3, 256)) * size).astype(np.float32)
    assert same_bits(tier_ops.linear(x, weight), linear_int8(x, "Q8_0", data, 16, planes=2))


def test_float_matrices_do_not_depend_on_the_planes() -> None:
    for name in sorted(DENSE):
        data, x, _ = case(name)
        one, two = (CpuOps(threads=2, planes=planes) for planes in (1, 2))
        results = [
            ops.linear(x, ops.load_quant(name, (37, x.shape[1]), data, LINEAR)).copy() for ops in (one, two)
        ]
        assert same_bits(*results)


def test_other_numbers_of_planes_are_refused() -> None:
    for planes in (0, 3):
        with pytest.raises(ValueError, match="1 or 2"):
            CpuOps(threads=1, planes=planes)
        with pytest.raises(ValueError, match="one plane or two"):
            _native.Backend(1, "", planes)
