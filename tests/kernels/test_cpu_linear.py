"""Every fast linear kernel gives the bits of `linear_int8`: any type, tier, batch size, shape and thread count."""

import numpy as np
import pytest

from kernels.cpu import _native
from kernels.cpu.ops import CpuOps
from kernels.quant_tensor import TYPES
from kernels.random_weights import random_weight
from kernels.reference.formats import DENSE
from kernels.reference.linear import linear_int8

TIERS = _native.isa_tiers()
#: 1, 2, 7, 33 as promised, and sizes around the column groups of the kernels (2, 4 and 12).
BATCHES = (1, 2, 3, 4, 5, 7, 11, 12, 13, 24, 33)
LINEAR = frozenset({"linear"})


@pytest.fixture(scope="module", params=TIERS)
def tier_ops(request: pytest.FixtureRequest) -> CpuOps:
    return CpuOps(threads=2, isa=request.param)


def ragged_shape(type_name: str) -> tuple[int, int]:
    """Rows that leave a tile half full; columns that leave a group of 256 half full where the type allows it."""
    if type_name in DENSE:
        return 37, 413
    return (37, 800) if TYPES[type_name].row_multiple == 32 else (37, 768)


def activations(n_tokens: int, n_in: int, rng: np.random.Generator) -> np.ndarray:
    """Rows of very different sizes, zero blocks and outliers among them."""
    x = rng.standard_normal((n_tokens, n_in)).astype(np.float32)
    x *= np.float32(10.0) ** rng.integers(-3, 4, (n_tokens, 1)).astype(np.float32)
    x[:, 32:64] = 0
    x[::3, 5] *= 100
    return x


def linear(ops: CpuOps, x: np.ndarray, weight: object) -> np.ndarray:
    ops.begin_step()
    return ops.linear(x, weight).copy()  # type: ignore[arg-type]


@pytest.mark.parametrize("type_name", TYPES)
def test_equals_linear_int8_bit_for_bit(tier_ops: CpuOps, type_name: str) -> None:
    rng = np.random.default_rng([1, *type_name.encode()])
    n_out, n_in = ragged_shape(type_name)
    data = random_weight(type_name, n_out, n_in, rng)
    weight = tier_ops.load_quant(type_name, (n_out, n_in), data, LINEAR)
    x = activations(max(BATCHES), n_in, rng)
    expected = linear_int8(x, type_name, data, n_out)
    for n in BATCHES:
        got = linear(tier_ops, x[:n].copy(), weight)
        assert (got.view(np.uint32) == expected[:n].view(np.uint32)).all(), f"batch {n}"


@pytest.mark.parametrize("n_blocks", [1, 2, 3, 5, 7, 8, 9, 15])
@pytest.mark.parametrize("type_name", ["Q8_0", "Q6_0", "IQ3_KT", "IQ4_KT", "IQ1_M_32"])
def test_any_number_of_32_blocks_keeps_the_chain_order(
    tier_ops: CpuOps, type_name: str, n_blocks: int
) -> None:
    rng = np.random.default_rng(n_blocks)
    data = random_weight(type_name, 18, 32 * n_blocks, rng)
    weight = tier_ops.load_quant(type_name, (18, 32 * n_blocks), data, LINEAR)
    x = rng.standard_normal((14, 32 * n_blocks)).astype(np.float32)
    expected = linear_int8(x, type_name, data, 18)
    for n in (1, 14):
        assert (linear(tier_ops, x[:n].copy(), weight).view(np.uint32) == expected[:n].view(np.uint32)).all()


@pytest.mark.parametrize("type_name", ["IQ2_KT", "IQ4_K", "Q8_0", "F16"])
@pytest.mark.parametrize("n_out", [1, 15, 16, 17, 300])
def test_row_counts_and_threads_do_not_change_a_bit(type_name: str, n_out: int) -> None:
    rng = np.random.default_rng(n_out)
    data = random_weight(type_name, n_out, 512, rng)
    x = rng.standard_normal((5, 512)).astype(np.float32)
    expected = linear_int8(x, type_name, data, n_out)
    for threads in (1, 2, 3):
        ops = CpuOps(threads=threads)
        weight = ops.load_quant(type_name, (n_out, 512), data, LINEAR)
        assert (linear(ops, x, weight).view(np.uint32) == expected.view(np.uint32)).all()


def test_linear_many_equals_one_by_one(tier_ops: CpuOps) -> None:
    rng = np.random.default_rng(9)
    names = ("IQ2_KT", "F16", "Q4_K", "IQ3_S")
    weights = [
        tier_ops.load_quant(name, (n_out, 512), random_weight(name, n_out, 512, rng), LINEAR)
        for name, n_out in zip(names, (48, 5, 33, 16), strict=True)
    ]
    for n in (1, 6):
        x = rng.standard_normal((n, 512)).astype(np.float32)
        alone = [linear(tier_ops, x, weight) for weight in weights]
        tier_ops.begin_step()
        for got, expected in zip(tier_ops.linear_many(x, weights), alone, strict=True):
            assert (got.view(np.uint32) == expected.view(np.uint32)).all()


@pytest.mark.parametrize(
    "types", [("IQ2_KT", "IQ2_KT"), ("IQ4_KT", "Q6_K"), ("F16", "IQ3_KT"), ("BF16", "BF16")]
)
@pytest.mark.parametrize("n_out", [7, 16, 150])
def test_fused_forms_equal_the_ops_they_stand_for(
    tier_ops: CpuOps, types: tuple[str, str], n_out: int
) -> None:
    rng = np.random.default_rng(n_out)
    gate, up = (
        tier_ops.load_quant(name, (n_out, 512), random_weight(name, n_out, 512, rng), LINEAR)
        for name in types
    )
    for n in (1, 2, 13, 33):
        x = rng.standard_normal((n, 512)).astype(np.float32)
        residual = rng.standard_normal((n, n_out)).astype(np.float32)
        expected = tier_ops.silu_mul(*tier_ops.linear_many(x, [gate, up]))
        assert (tier_ops.gated_linear(x, gate, up).view(np.uint32) == expected.view(np.uint32)).all()
        expected = tier_ops.add(residual, tier_ops.linear(x, up))
        assert (tier_ops.linear_add(x, up, residual).view(np.uint32) == expected.view(np.uint32)).all()


@pytest.mark.parametrize("type_name", ["IQ2_KT", "IQ3_KT", "Q4_K", "IQ4_K", "Q8_0", "IQ4_KT_V1"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_token_that_is_not_finite_fails_alone(tier_ops: CpuOps, type_name: str, bad: float) -> None:
    rng = np.random.default_rng(2)
    data = random_weight(type_name, 20, 512, rng)
    weight = tier_ops.load_quant(type_name, (20, 512), data, LINEAR)
    x = rng.standard_normal((6, 512)).astype(np.float32)
    expected = linear(tier_ops, x, weight)
    x[2, 77] = bad
    got = linear(tier_ops, x, weight)
    assert np.isnan(got[2]).all()
    others = [0, 1, 3, 4, 5]
    assert (got[others].view(np.uint32) == expected[others].view(np.uint32)).all()
    assert np.isnan(linear(tier_ops, x[2:3].copy(), weight)).all()


@pytest.mark.parametrize("type_name", TYPES)
def test_no_type_takes_more_than_its_file_bytes_and_a_tenth(type_name: str) -> None:
    """At whole tiles; a matrix whose rows do not fill its last tile of 16 pays for the empty rows."""
    data = random_weight(type_name, 256, 2048, np.random.default_rng(0))
    weight = CpuOps(threads=1).load_quant(type_name, (256, 2048), data, frozenset({"linear", "embed"}))
    assert weight.nbytes <= 1.1 * data.nbytes


@pytest.mark.parametrize("type_name", [t.name for t in TYPES.values() if t.tail_nibbles])
@pytest.mark.parametrize("n_in", [160, 640, 2880])
def test_tails_take_no_room_of_whole_blocks(type_name: str, n_in: int) -> None:
    """The same tenth, and the row's factor and a line of 64 bytes a tile: what a short row is rounded up to."""
    data = random_weight(type_name, 256, n_in, np.random.default_rng(0))
    weight = CpuOps(threads=1).load_quant(type_name, (256, n_in), data, LINEAR)
    assert weight.nbytes <= 1.1 * data.nbytes + 256 // 16 * 64


def test_wrong_arguments_are_refused_before_any_kernel_runs() -> None:
    ops = CpuOps(threads=1)
    data = random_weight("IQ2_KT", 16, 256, np.random.default_rng(0))
    with pytest.raises(ValueError, match="no type"):
        ops.load_quant("IQ9_KT", (16, 256), data, LINEAR)
    with pytest.raises(ValueError, match="multiple of 256"):
        ops.load_quant("IQ2_KT", (16, 250), data, LINEAR)
    with pytest.raises(ValueError, match="IQ2_KT row holds a multiple of 256 weights, not 288"):
        ops.load_quant("IQ2_KT", (16, 288), data, LINEAR)
    with pytest.raises(ValueError, match="IQ3_KT row holds a multiple of 32 weights, not 272"):
        ops.load_quant("IQ3_KT", (16, 272), data, LINEAR)
    with pytest.raises(ValueError, match="bytes, not"):
        ops.load_quant("IQ2_KT", (15, 256), data, LINEAR)
    weight = ops.load_quant("IQ2_KT", (16, 256), data, LINEAR)
    with pytest.raises(ValueError, match="width"):
        ops.linear(np.zeros((1, 512), np.float32), weight)
    with pytest.raises(TypeError):
        ops.linear(np.zeros((1, 256), np.float64), weight)
    with pytest.raises(TypeError):
        ops.linear(np.zeros((1, 512), np.float32)[:, ::2], weight)


def test_an_unknown_isa_is_refused_with_the_ones_that_run() -> None:
    with pytest.raises(ValueError, match="scalar"):
        CpuOps(threads=1, isa="sse9")
