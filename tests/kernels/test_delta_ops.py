"""Recurrent operations: every tier's bits, near the reference, the same however a sequence is cut, in any company."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pytest

from kernels.batches import StateBatch
from kernels.cache_groups import StateGroup
from kernels.cpu import _native
from kernels.cpu.ops import CpuOps
from kernels.delta_ops import DeltaGates
from kernels.reference.ops import ReferenceOps

TIERS = _native.isa_tiers()
EPS = 1e-6
#: n_k_head, n_head, key_dim, value_dim, n_taps: Qwen3.5's, and widths that fill no vector.
SHAPES = [(2, 6, 128, 128, 4), (3, 3, 32, 64, 4), (1, 2, 20, 84, 2), (2, 4, 64, 10, 5)]


class Layer(NamedTuple):
    """One recurrent layer's weights and inputs, random."""

    group: StateGroup
    x: np.ndarray  # [n_tokens, n_channels]
    alpha: np.ndarray  # [n_tokens, n_head]
    beta: np.ndarray
    weight: np.ndarray
    gates: DeltaGates


def layer(shape: tuple[int, int, int, int, int], n_tokens: int, seed: int = 0) -> Layer:
    n_k_head, n_head, key_dim, value_dim, n_taps = shape
    rng = np.random.default_rng(seed)
    n_channels = 2 * n_k_head * key_dim + n_head * value_dim
    normal = lambda *size: rng.standard_normal(size).astype(np.float32)  # noqa: E731
    return Layer(
        StateGroup(1, n_channels, n_taps, n_head, key_dim, value_dim),
        normal(n_tokens, n_channels),
        3 * normal(n_tokens, n_head),
        normal(n_tokens, n_head),
        normal(n_taps * n_channels),
        DeltaGates(normal(n_head), -np.exp(normal(n_head))),
    )


class Piece(NamedTuple):
    """Tokens first .. last - 1 of a sequence, which began at token `start` of the layer's inputs."""

    start: int
    first: int
    last: int
    slot: int


def run(ops: Any, layer: Layer, cache: Any, pieces: Sequence[Piece]) -> np.ndarray:
    """One pass over some sequences: [n_tokens, n_head, value_dim]."""
    lengths = [piece.last - piece.first for piece in pieces]
    rows = np.concatenate([np.arange(piece.first, piece.last) for piece in pieces])
    ops.begin_step()
    batch = StateBatch(
        ops.index_array(np.cumsum([0, *lengths])),
        ops.index_array(np.array([piece.last - piece.start for piece in pieces])),
        ops.index_array(np.array([piece.slot for piece in pieces])),
    )
    qkv = ops.causal_conv(layer.x[rows], layer.weight, cache, batch)
    out = ops.delta_net(qkv, layer.alpha[rows], layer.beta[rows], layer.gates, cache, batch, EPS)
    return out.copy()


def whole(ops: Any, layer: Layer, n_tokens: int) -> np.ndarray:
    cache = ops.new_cache(layer.group, 1, 32)[0]
    return run(ops, layer, cache, [Piece(0, 0, n_tokens, 0)])


def same_bits(got: np.ndarray, expected: np.ndarray) -> bool:
    return got.shape == expected.shape and bool((got.view(np.uint32) == expected.view(np.uint32)).all())


@pytest.mark.parametrize("shape", SHAPES)
def test_the_result_is_the_references_but_for_exponentials(shape: tuple[int, int, int, int, int]) -> None:
    """Those are within 2 ulp, and a state remembers what they change: hence a share of the largest value."""
    one = layer(shape, 40)
    expected = whole(ReferenceOps(), one, 40)
    got = whole(CpuOps(threads=2), one, 40)
    np.testing.assert_allclose(got, expected, rtol=0, atol=2e-5 * np.abs(expected).max())


@pytest.mark.parametrize("shape", SHAPES)
def test_every_tier_gives_the_same_bits_on_any_number_of_threads(
    shape: tuple[int, int, int, int, int],
) -> None:
    one = layer(shape, 9)
    expected = whole(CpuOps(threads=1, isa="scalar"), one, 9)
    for isa in TIERS:
        assert same_bits(whole(CpuOps(threads=3, isa=isa), one, 9), expected), isa


@pytest.mark.parametrize("ops", [ReferenceOps(), CpuOps(threads=2)], ids=["reference", "cpu"])
def test_a_sequence_cut_anywhere_goes_on_as_if_it_were_whole(ops: Any) -> None:
    one = layer((1, 2, 20, 36, 4), 12)
    expected = whole(ops, one, 12)
    for cuts in [(cut,) for cut in range(1, 12)] + [tuple(range(1, 12)), (1, 3, 4, 9)]:
        cache = ops.new_cache(one.group, 3, 32)[0]
        edges = pairwise((0, *cuts, 12))
        parts = [run(ops, one, cache, [Piece(0, first, last, 2)]) for first, last in edges]
        assert same_bits(np.concatenate(parts), expected), cuts


@pytest.mark.parametrize("ops", [ReferenceOps(), CpuOps(threads=2)], ids=["reference", "cpu"])
def test_company_padding_and_what_a_slot_held_change_nothing(ops: Any) -> None:
    """Sequences that begin and go on in one pass, a padding sequence, and slots full of NaN before."""
    one = layer((2, 4, 32, 20, 4), 30)
    cache = ops.new_cache(one.group, 4, 32)[0]
    cache.inputs[:], cache.states[:] = np.nan, np.nan
    first = run(ops, one, cache, [Piece(0, 0, 7, 3), Piece(20, 20, 22, 1), Piece(10, 10, 11, -1)])
    second = run(ops, one, cache, [Piece(12, 12, 15, 0), Piece(0, 7, 8, 3), Piece(20, 22, 25, 1)])
    alone = whole(ops, one, 8)
    assert same_bits(first[:7], alone[:7])
    assert same_bits(second[3:4], alone[7:])
    shifted = one._replace(x=one.x[20:], alpha=one.alpha[20:], beta=one.beta[20:])
    assert same_bits(np.concatenate([first[7:9], second[4:]]), whole(ops, shifted, 5))
    assert np.isfinite(first).all()
    assert np.isfinite(second).all()
    assert np.isnan(cache.states[2]).all(), "no pass had that slot"


def test_a_sequence_of_nans_harms_no_other() -> None:
    ops, one = CpuOps(threads=2), layer((2, 4, 32, 20, 4), 8)
    one.x[:4] = np.nan
    cache = ops.new_cache(one.group, 2, 32)[0]
    out = run(ops, one, cache, [Piece(0, 0, 4, 0), Piece(4, 4, 8, 1)])
    shifted = one._replace(x=one.x[4:], alpha=one.alpha[4:], beta=one.beta[4:])
    assert np.isnan(out[:4]).all()
    assert same_bits(out[4:], whole(ops, shifted, 4))


def test_gates_of_any_size_are_right() -> None:
    """softplus at both ends, where exp(x) is 0 and where it would overflow."""
    ops, one = CpuOps(threads=1), layer((1, 4, 16, 16, 2), 5)
    one.alpha[:] = [[-200, -30, 30, 200]] * 5
    one.beta[:] = [[-200, 90, -90, 200]] * 5
    expected = whole(ReferenceOps(), one, 5)
    np.testing.assert_allclose(whole(ops, one, 5), expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("n", [1, 16, 61])
def test_gating_by_a_sigmoid_is_the_same_on_every_tier_and_near_the_reference(n: int) -> None:
    rng = np.random.default_rng(n)
    x, gate, residual = (rng.standard_normal((3, n)).astype(np.float32) * 5 for _ in range(3))
    one = gate[:, :1].copy()
    reference, scalar = ReferenceOps(), CpuOps(threads=1, isa="scalar")
    np.testing.assert_allclose(scalar.sigmoid_mul(x, gate), reference.sigmoid_mul(x, gate), rtol=1e-6)
    np.testing.assert_allclose(
        scalar.add_gated(residual, x, one), reference.add_gated(residual, x, one), rtol=1e-6, atol=1e-6
    )
    for isa in TIERS:
        ops = CpuOps(threads=2, isa=isa)
        assert same_bits(ops.sigmoid_mul(x, gate), scalar.sigmoid_mul(x, gate))
        assert same_bits(ops.add_gated(residual, x, one), scalar.add_gated(residual, x, one))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"slots": [4]}, "state slot 4 is outside 0 .. 3"),
        ({"slots": [-2]}, "state slot -2 is outside"),
        ({"query_start": [0, 9]}, "query_start does not span the tokens"),
    ],
)
def test_a_slot_that_is_not_there_is_refused(change: dict[str, list[int]], message: str) -> None:
    ops, one = CpuOps(threads=1), layer((1, 1, 16, 16, 2), 3)
    cache = ops.new_cache(one.group, 4, 32)[0]
    ints = {"query_start": [0, 3], "context_lens": [3], "slots": [0]} | change
    batch = StateBatch(**{name: ops.index_array(np.array(values)) for name, values in ints.items()})
    with pytest.raises(ValueError, match=message):
        ops.causal_conv(one.x, one.weight, cache, batch)
    with pytest.raises(ValueError, match=message):
        ops.delta_net(one.x, one.alpha, one.beta, one.gates, cache, batch, EPS)
