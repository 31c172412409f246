"""Attention over the paged cache: right, and the same bits however a sequence is cut, batched or placed."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from kernels.cpu import _native
from kernels.cpu.ops import CpuOps
from kernels.ops import AttentionBatch, Ops

BLOCK = 32
HALF_NAN = 0x7E00


@dataclass
class Sequence:
    """Queries, keys and values of a whole sequence, and the blocks it lives in."""

    q: np.ndarray  # [n, n_head, head_dim]
    k: np.ndarray  # [n, n_head_kv, head_dim]
    v: np.ndarray
    blocks: list[int]

    def slots(self, first: int, last: int) -> np.ndarray:
        positions = np.arange(first, last)
        return (np.array(self.blocks)[positions // BLOCK] * BLOCK + positions % BLOCK).astype(np.int32)


def sequence(
    n: int, n_head: int, n_head_kv: int, head_dim: int, blocks: list[int], seed: int = 0
) -> Sequence:
    rng = np.random.default_rng([seed, n, n_head, head_dim])
    make = lambda heads: rng.standard_normal((n, heads, head_dim)).astype(np.float32)  # noqa: E731
    return Sequence(make(n_head) * 2, make(n_head_kv), make(n_head_kv), blocks)


def new_cache(ops: Ops, seqs: list[Sequence], n_blocks: int) -> Any:
    _, n_head_kv, head_dim = seqs[0].k.shape
    cache = ops.new_kv_cache(1, n_blocks, BLOCK, n_head_kv, head_dim)[0]
    cache.k[:], cache.v[:] = (HALF_NAN, HALF_NAN) if ops.name == "cpu" else (np.nan, np.nan)
    return cache


def attend(ops: Ops, cache: Any, parts: list[tuple[Sequence, int, int]]) -> list[np.ndarray]:
    """One pass over tokens [first, last) of each sequence, stored and attended; outputs by sequence."""
    ops.begin_step()
    lengths = [last - first for _, first, last in parts]
    join = lambda name: np.concatenate([getattr(s, name)[a:b] for s, a, b in parts])  # noqa: E731
    slots = np.concatenate([s.slots(a, b) for s, a, b in parts])
    ops.store_kv(join("k"), join("v"), cache, slots)
    table = np.full((len(parts), max(len(s.blocks) for s, _, _ in parts)), -1, np.int32)
    for row, (s, _, _) in zip(table, parts, strict=True):
        row[: len(s.blocks)] = s.blocks
    starts = np.cumsum([0, *lengths]).astype(np.int32)
    batch = AttentionBatch(starts, np.array([b for _, _, b in parts], np.int32), table)
    out = ops.to_host(ops.attention(join("q"), cache, batch, parts[0][0].q.shape[2] ** -0.5)).copy()
    return [out[a:b] for a, b in pairwise(starts)]


def whole(ops: Ops, s: Sequence, n_blocks: int = 40) -> np.ndarray:
    return attend(ops, new_cache(ops, [s], n_blocks), [(s, 0, len(s.q))])[0]


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    return bool((a.view(np.uint32) == b.view(np.uint32)).all())


SHAPES = [(4, 4, 64), (8, 2, 64), (8, 1, 128), (6, 2, 80), (4, 2, 24), (2, 1, 6)]


@pytest.mark.parametrize(("n_head", "n_head_kv", "head_dim"), SHAPES)
@pytest.mark.parametrize("n", [1, 33, 255, 257, 600])
def test_agrees_with_the_reference(
    cpu_ops: CpuOps, reference_ops: Ops, n: int, n_head: int, n_head_kv: int, head_dim: int
) -> None:
    """Both read the same f16 keys and values; what differs is the order of float32 sums over up to 600 keys."""
    s = sequence(n, n_head, n_head_kv, head_dim, list(range(3, 3 + -(-n // BLOCK))))
    np.testing.assert_allclose(whole(cpu_ops, s), whole(reference_ops, s), rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize(("n_head", "n_head_kv", "head_dim"), SHAPES)
def test_every_tier_and_thread_count_gives_the_same_bits(n_head: int, n_head_kv: int, head_dim: int) -> None:
    s = sequence(290, n_head, n_head_kv, head_dim, list(range(10)))
    expected = whole(CpuOps(threads=1, isa="scalar"), s)
    for isa in _native.isa_tiers():
        for threads in (1, 2, 3):
            assert same_bits(whole(CpuOps(threads=threads, isa=isa), s), expected)


@pytest.mark.parametrize("cut", [1, 7, 32, 100, 256, 299])
def test_chunks_of_any_length_equal_one_shot(cpu_ops: CpuOps, cut: int) -> None:
    s = sequence(300, 8, 2, 64, list(range(10)))
    cache = new_cache(cpu_ops, [s], 40)
    parts = [attend(cpu_ops, cache, [(s, a, min(a + cut, 300))])[0] for a in range(0, 300, cut)]
    assert same_bits(np.concatenate(parts), whole(cpu_ops, s))


def test_any_company_and_any_blocks_give_the_same_bits(cpu_ops: CpuOps) -> None:
    rng = np.random.default_rng(8)
    free = rng.permutation(40).tolist()
    lengths = (290, 1, 40, 64, 257)
    seqs = []
    for seed, n in enumerate(lengths):
        blocks, free = free[: -(-n // BLOCK)], free[-(-n // BLOCK) :]
        seqs.append(sequence(n, 8, 2, 64, blocks, seed))
    cache = new_cache(cpu_ops, seqs, 40)
    n_before = [0, 0, 39, 10, 256]  # one is all prefill, two decode, two continue
    for s, n in zip(seqs, n_before, strict=True):
        if n:
            attend(cpu_ops, cache, [(s, 0, n)])
    parts = [(s, n, len(s.q)) for s, n in zip(seqs, n_before, strict=True)]
    for s, n, got in zip(seqs, n_before, attend(cpu_ops, cache, parts), strict=True):
        plain = Sequence(s.q, s.k, s.v, list(range(len(s.blocks))))
        assert same_bits(got, whole(cpu_ops, plain)[n:])


def test_what_nobody_stored_never_matters(cpu_ops: CpuOps) -> None:
    """Caches start as NaN here; the outputs above are finite, and equal to those over a cache of zeros."""
    s = sequence(45, 8, 2, 80, [3, 1])
    zeroed = cpu_ops.new_kv_cache(1, 40, BLOCK, 2, 80)[0]
    got = whole(cpu_ops, s)
    assert np.isfinite(got).all()
    assert same_bits(got, attend(cpu_ops, zeroed, [(s, 0, 45)])[0])


@pytest.mark.parametrize("where", ["q", "k", "v"])
def test_a_nan_stays_in_its_sequence(cpu_ops: CpuOps, where: str) -> None:
    good, bad = sequence(50, 8, 2, 64, [0, 1]), sequence(50, 8, 2, 64, [2, 3], seed=1)
    getattr(bad, where)[20, 0, 5] = np.nan
    cache = new_cache(cpu_ops, [good, bad], 8)
    first, second = attend(cpu_ops, cache, [(good, 0, 50), (bad, 0, 50)])
    assert same_bits(first, whole(cpu_ops, good))
    assert np.isnan(second[20]).any()
    assert np.isfinite(second[:20]).all()


def test_passes_that_do_not_fit_the_cache_are_refused(cpu_ops: CpuOps) -> None:
    s = sequence(40, 4, 2, 16, [0, 1])
    cache = cpu_ops.new_kv_cache(1, 2, BLOCK, 2, 16)[0]
    good = AttentionBatch(*(np.array(a, np.int32) for a in ([0, 40], [40], [[0, 1]])))
    assert cpu_ops.attention(s.q, cache, good, 1.0).shape == s.q.shape
    wrong = {
        "context_lens": [65],
        "block_table": [[0, 2]],
        "query_start": [0, 39],
    }
    for name, value in wrong.items():
        with pytest.raises(ValueError, match=r"attention|block"):
            cpu_ops.attention(s.q, cache, good._replace(**{name: np.array(value, np.int32)}), 1.0)
    with pytest.raises(ValueError, match="block -1"):
        cpu_ops.attention(s.q, cache, good._replace(block_table=np.array([[0, -1]], np.int32)), 1.0)
