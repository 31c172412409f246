"""Indexers pick the reference's tokens, and attention over what was picked is attention as if nothing else were."""

from typing import Any

import numpy as np
import pytest

from kernels.batches import AttentionBatch
from kernels.cache_groups import LatentGroup
from kernels.cpu import _native
from kernels.cpu.ops import CpuOps
from kernels.kv_type import KV_TYPES
from kernels.ops import Ops
from support.latents import latent_sequence, new_latents, whole_latent
from support.sequences import BLOCK, same_bits

TIERS = _native.isa_tiers()


def batch_of(n_cached: int, n_new: int) -> AttentionBatch:
    """The last n_new tokens of a sequence whose blocks lie from the last to the first."""
    n = n_cached + n_new
    table = np.arange(-(-n // BLOCK), dtype=np.int32)[::-1][None].copy()
    return AttentionBatch(np.array([0, n_new], np.int32), np.array([n], np.int32), table)


def slots(batch: AttentionBatch) -> np.ndarray:
    positions = np.arange(batch.context_lens[0])
    return (batch.block_table[0][positions // BLOCK] * BLOCK + positions % BLOCK).astype(np.int32)


def filled(ops: Ops, rows: np.ndarray, batch: AttentionBatch, kv_type: str, value_width: int) -> Any:
    n_blocks = batch.block_table.shape[1]
    group = LatentGroup(1, rows.shape[1], value_width, is_exact=kv_type == "f32")
    cache = ops.new_cache(group, n_blocks, BLOCK, "f16" if group.is_exact else kv_type)[0]
    ops.store_latent(rows, cache, slots(batch))
    return cache


def whole_numbers(*shape: int, largest: int = 2) -> np.ndarray:
    """Of which every sum here is exact, in any order: scores are equal or differ by one at least."""
    return np.random.default_rng(shape).integers(-largest, largest + 1, shape).astype(np.float32)


@pytest.mark.parametrize("kv_type", [*KV_TYPES, "f32"])
@pytest.mark.parametrize(("n_head", "width"), [(1, 32), (3, 41), (16, 64)])
@pytest.mark.parametrize(
    ("n_cached", "n_new", "top_k"), [(0, 70, 40), (250, 9, 32), (2060, 3, 2048), (5, 1, 9)]
)
def test_picks_what_the_reference_picks(
    reference_ops: Ops, kv_type: str, n_head: int, width: int, n_cached: int, n_new: int, top_k: int
) -> None:
    """On every tier, with many equal scores among them. 127 in each 32 numbers makes q8_0's scales one."""
    batch, rows = batch_of(n_cached, n_new), whole_numbers(n_cached + n_new, width)
    rows[:, ::32] = 127
    arrays = whole_numbers(n_new, n_head, width), whole_numbers(n_new, n_head, largest=1)
    expected = reference_ops.choose_keys(
        *arrays, filled(reference_ops, rows, batch, kv_type, width), batch, top_k
    )
    for isa in TIERS:
        ops = CpuOps(threads=2, isa=isa)
        got = ops.choose_keys(*arrays, filled(ops, rows, batch, kv_type, width), batch, top_k)
        np.testing.assert_array_equal(got, expected)


def test_the_better_keys_are_picked_and_given_in_their_order(cpu_ops: CpuOps) -> None:
    """One head, one number: the score of key j is its row; below zero all are equal, the first ones come first."""
    rows, batch = np.array([[3.0], [-1], [8], [-2], [5], [-3]], np.float32), batch_of(5, 1)
    one = np.ones((1, 1), np.float32)
    cache = filled(cpu_ops, rows, batch, "f16", 1)
    picked = [cpu_ops.choose_keys(one[..., None], one, cache, batch, k)[0].tolist() for k in (1, 2, 4, 8)]
    assert picked == [[2], [2, 4], [0, 1, 2, 4], [0, 1, 2, 3, 4, 5, -1, -1]]
    minus = cpu_ops.choose_keys(one[..., None], -one, cache, batch, 2)[0].tolist()
    assert minus == [1, 3]


def test_a_key_that_is_nan_comes_after_every_number(cpu_ops: CpuOps) -> None:
    """And a token whose own numbers are NaN picks the first ones: defined, within its cache."""
    rows, batch = whole_numbers(40, 32), batch_of(38, 2)
    rows[[0, 7, 20]] = np.nan
    q, weights = whole_numbers(2, 4, 32), np.ones((2, 4), np.float32)
    weights[1] = np.nan
    first, second = cpu_ops.choose_keys(q, weights, filled(cpu_ops, rows, batch, "f16", 32), batch, 36)
    assert first.tolist() == [i for i in range(39) if i not in (0, 7, 20)]
    assert second.tolist() == list(range(36))


def test_cut_anywhere_the_choice_is_the_same(cpu_ops: CpuOps) -> None:
    rng = np.random.default_rng(4)
    rows, q = (rng.standard_normal(shape).astype(np.float32) for shape in ((300, 48), (300, 5, 48)))
    weights, whole = rng.standard_normal((300, 5)).astype(np.float32), batch_of(0, 300)
    cache = filled(cpu_ops, rows, whole, "f16", 48)
    expected = cpu_ops.choose_keys(q, weights, cache, whole, 64).copy()
    for first, last in ((0, 1), (0, 100), (100, 300), (299, 300)):
        part = AttentionBatch(
            np.array([0, last - first], np.int32), np.array([last], np.int32), whole.block_table
        )
        got = cpu_ops.choose_keys(q[first:last].copy(), weights[first:last].copy(), cache, part, 64)
        np.testing.assert_array_equal(got, expected[first:last])


@pytest.mark.parametrize("kv_type", KV_TYPES)
@pytest.mark.parametrize("n_head", [4, 40])
def test_attention_over_all_positions_is_dense_attention(
    cpu_ops: CpuOps, reference_ops: Ops, kv_type: str, n_head: int
) -> None:
    s = latent_sequence(290, n_head, 48, 32, list(range(10)))
    batch = AttentionBatch(
        np.array([0, 290], np.int32), np.array([290], np.int32), np.array([s.blocks], np.int32)
    )
    everything = np.where(np.arange(300) <= np.arange(290)[:, None], np.arange(300), -1).astype(np.int32)
    for ops in (cpu_ops, reference_ops):
        cache = new_latents(ops, s, 10, kv_type)
        ops.store_latent(s.rows, cache, s.slots(0, 290))
        got = ops.sparse_latent_attention(s.q, cache, batch, s.scale, everything)
        assert same_bits(got, whole_latent(ops, s, kv_type))


@pytest.mark.parametrize("isa", TIERS)
@pytest.mark.parametrize("n_chosen", [1, 17, 300])
def test_attention_over_some_positions_is_that_of_a_cache_of_these_rows(isa: str, n_chosen: int) -> None:
    """Bit for bit: the others are not looked at, NaN as they are here."""
    ops, rng, n = CpuOps(threads=3, isa=isa), np.random.default_rng(n_chosen), 700
    s = latent_sequence(n, 36, 80, 64, list(range(22)))
    chosen = np.sort(rng.permutation(n)[:n_chosen]).astype(np.int32)
    q, few, many = s.q[-1:].copy(), batch_of(n_chosen - 1, 1), batch_of(n - 1, 1)
    rows = np.full_like(s.rows, np.nan)
    rows[chosen] = s.rows[chosen]
    listed = np.full((1, n_chosen + 5), -1, np.int32)
    listed[0, :n_chosen] = chosen
    got = ops.sparse_latent_attention(q, filled(ops, rows, many, "f16", 64), many, s.scale, listed)
    alone = ops.latent_attention(q, filled(ops, s.rows[chosen], few, "f16", 64), few, s.scale)
    assert same_bits(got, alone)


def test_positions_that_a_token_cannot_see_are_refused(cpu_ops: CpuOps) -> None:
    batch = batch_of(30, 2)
    cache = filled(cpu_ops, whole_numbers(32, 16), batch, "f16", 16)
    q = whole_numbers(2, 3, 16)
    for wrong, message in (
        ([[0, 31], [0, 31]], "chosen position 31"),
        ([[0, -2], [0, 1]], "position -2"),
        ([[-1, 3], [0, 1]], "sees nothing"),
    ):
        with pytest.raises(ValueError, match=message):
            cpu_ops.sparse_latent_attention(q, cache, batch, 1.0, np.array(wrong, np.int32))
