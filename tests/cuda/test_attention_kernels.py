"""Attention on the device gives the CPU's bits: ragged batches, heads of any size, split contexts, any order."""

from typing import Any

import numpy as np
import pytest

from kernels.ops import KV_SPLIT, Ops
from support.cuda_device import ORDERS, SEED, thread_order
from support.sequences import Sequence, attend, new_cache, on, same_bits, sequence, whole

#: (n_head, n_head_kv, head_dim): no group, groups of 4 and 8, one that no block of queries fills, odd sizes.
SHAPES = [(2, 2, 64), (4, 1, 64), (8, 1, 128), (6, 2, 80), (4, 2, 24), (2, 1, 6), (1, 1, 256)]


@pytest.mark.parametrize(("n_head", "n_head_kv", "head_dim"), SHAPES)
def test_a_prefill_gives_the_cpus_bits_in_any_thread_order(
    cuda_ops: Ops, cpu_ops: Ops, n_head: int, n_head_kv: int, head_dim: int
) -> None:
    """35 tokens: one block of keys and part of another; what lies behind them is NaN and must not be seen."""
    s = sequence(35, n_head, n_head_kv, head_dim, [3, 1], SEED)
    expected = whole(cpu_ops, s, "f16", 4)
    for order in ORDERS:
        with thread_order(order):
            assert same_bits(whole(cuda_ops, s, "f16", 4), expected), f"order {order}"


@pytest.mark.parametrize(("n_head", "n_head_kv", "head_dim"), SHAPES[1:5])
def test_ragged_decodes_give_the_cpus_bits_in_any_thread_order(
    cuda_ops: Ops, cpu_ops: Ops, n_head: int, n_head_kv: int, head_dim: int
) -> None:
    """Contexts of one to three splits, the longest ending just behind one; one sequence brings three tokens."""
    lengths = [1, KV_SPLIT, 2 * KV_SPLIT + 1, 40]
    n_new = [1, 1, 1, 3]
    seqs, first = [], 0
    for seed, n in enumerate(lengths):
        blocks = list(range(first, first - (-n // 32)))
        seqs.append(sequence(n, n_head, n_head_kv, head_dim, blocks[::-1], SEED + seed))
        first += len(blocks)
    expected = last_tokens(cpu_ops, seqs, n_new, first)
    for order in ORDERS:
        with thread_order(order):
            got = last_tokens(cuda_ops, seqs, n_new, first)
        for i, (a, b) in enumerate(zip(got, expected, strict=True)):
            assert same_bits(a, b), f"order {order}, sequence {i}"


def last_tokens(ops: Ops, seqs: list[Sequence], n_new: list[int], n_blocks: int) -> list[np.ndarray]:
    """The outputs of each sequence's last tokens, over a cache that the ones before them filled."""
    cache = new_cache(ops, seqs, n_blocks, "f16")
    for s, n in zip(seqs, n_new, strict=True):
        if len(s.k) > n:
            store(ops, cache, s, len(s.k) - n)
    return attend(ops, cache, [(s, len(s.q) - n, len(s.q)) for s, n in zip(seqs, n_new, strict=True)])


def store(ops: Ops, cache: Any, s: Sequence, n: int) -> None:
    """The keys and values of the first n tokens."""
    ops.begin_step()
    k = on(ops, s.k[:n])
    ops.store_kv(k, on(ops, s.v[:n]), cache, on(ops, s.slots(0, n)))
    ops.to_host(k)  # waits for the store


def test_a_long_prefill_gives_the_cpus_bits(cuda_ops: Ops, cpu_ops: Ops) -> None:
    """Past one split of keys, so that a token's parts are merged; queries of three groups of rows."""
    s = sequence(KV_SPLIT + 20, 3, 1, 32, list(range(9)), SEED)
    assert same_bits(whole(cuda_ops, s, "f16", 9), whole(cpu_ops, s, "f16", 9))


@pytest.mark.parametrize("where", ["q", "k", "v"])
def test_a_nan_stays_in_its_sequence(cuda_ops: Ops, where: str) -> None:
    good, bad = sequence(20, 4, 2, 64, [0], SEED), sequence(20, 4, 2, 64, [2], SEED + 1)
    getattr(bad, where)[12, 0, 5] = np.nan
    first, second = attend(
        cuda_ops, new_cache(cuda_ops, [good, bad], 3, "f16"), [(good, 0, 20), (bad, 0, 20)]
    )
    assert same_bits(first, whole(cuda_ops, good, "f16", 3))
    assert np.isnan(second[12]).any()
    assert np.isfinite(second[:12]).all()


def test_heads_that_no_kernel_has_are_refused(cuda_ops: Ops) -> None:
    for head_dim in (65, 258):
        with pytest.raises(ValueError, match=f"heads of {head_dim} values"):
            cuda_ops.new_kv_cache(1, 1, 32, 1, head_dim)
