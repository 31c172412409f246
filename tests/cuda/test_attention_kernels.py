"""Attention on the device gives the CPU's bits: ragged batches, heads of any size, split contexts, any order."""

import numpy as np
import pytest

from kernels.batches import AttentionBatch
from kernels.cache_groups import PagedGroup
from kernels.cuda import attention_launch
from kernels.kv_type import KV_TYPES
from kernels.ops import KV_SPLIT, Ops, Rotation
from support.cuda_device import ORDERS, SEED, thread_order
from support.sequences import attend, last_tokens, new_cache, on, ragged, same_bits, sequence, whole

#: (n_head, n_head_kv, head_dim): no group, groups of 4 and 8, one that no block of queries fills, odd sizes.
KV = pytest.mark.parametrize("kv_type", KV_TYPES)
SHAPES = [(2, 2, 64), (4, 1, 64), (8, 1, 128), (6, 2, 80), (4, 2, 24), (2, 1, 6), (1, 1, 256)]


@KV
@pytest.mark.parametrize(("n_head", "n_head_kv", "head_dim"), SHAPES)
def test_a_prefill_gives_the_cpus_bits_in_any_thread_order(
    cuda_ops: Ops, cpu_ops: Ops, n_head: int, n_head_kv: int, head_dim: int, kv_type: str
) -> None:
    """35 tokens: one block of keys and part of another; what lies behind them is NaN and must not be seen."""
    s = sequence(35, n_head, n_head_kv, head_dim, [3, 1], SEED)
    expected = whole(cpu_ops, s, kv_type, 4)
    for order in ORDERS:
        with thread_order(order):
            assert same_bits(whole(cuda_ops, s, kv_type, 4), expected), f"order {order}"


@KV
@pytest.mark.parametrize(("n_head", "n_head_kv", "head_dim"), SHAPES[1:5])
def test_ragged_decodes_give_the_cpus_bits_in_any_thread_order(
    cuda_ops: Ops, cpu_ops: Ops, n_head: int, n_head_kv: int, head_dim: int, kv_type: str
) -> None:
    """Contexts of one to three splits, the longest ending just behind one; one sequence brings three tokens."""
    n_new = [1, 1, 1, 3]
    seqs = ragged([1, KV_SPLIT, 2 * KV_SPLIT + 1, 40], n_head, n_head_kv, head_dim, SEED)
    expected = last_tokens(cpu_ops, seqs, n_new, kv_type)
    for order in ORDERS:
        with thread_order(order):
            got = last_tokens(cuda_ops, seqs, n_new, kv_type)
        for i, (a, b) in enumerate(zip(got, expected, strict=True)):
            assert same_bits(a, b), f"order {order}, sequence {i}"


@KV
def test_a_long_prefill_gives_the_cpus_bits(cuda_ops: Ops, cpu_ops: Ops, kv_type: str) -> None:
    """Past one split of keys, so that a token's parts are merged; queries of three groups of rows."""
    s = sequence(KV_SPLIT + 20, 3, 1, 32, list(range(9)), SEED)
    assert same_bits(whole(cuda_ops, s, kv_type, 9), whole(cpu_ops, s, kv_type, 9))


#: Within a split; as long as one, so that most see two; more than any context here.
WINDOWS = [20, KV_SPLIT, 1000]


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("blocks_wanted", [0, 1 << 20])
def test_windows_give_the_cpus_bits_in_any_thread_order(
    cuda_ops: Ops, cpu_ops: Ops, monkeypatch: pytest.MonkeyPatch, blocks_wanted: int, window: int
) -> None:
    """Decodes whose window begins anywhere in a split, a chunk beside them; splits in one block and in their own."""
    monkeypatch.setattr(attention_launch, "SPLIT_BLOCKS_PER_MULTIPROCESSOR", blocks_wanted)
    n_new = [1, 1, 1, 9]
    seqs = ragged([5, KV_SPLIT + 19, 2 * KV_SPLIT + 1, KV_SPLIT + 25], 6, 2, 24, SEED)
    expected = last_tokens(cpu_ops, seqs, n_new, "q8_0", window)
    for order in ORDERS:
        with thread_order(order):
            got = last_tokens(cuda_ops, seqs, n_new, "q8_0", window)
        for i, (a, b) in enumerate(zip(got, expected, strict=True)):
            assert same_bits(a, b), f"order {order}, sequence {i}"


@KV
def test_a_windows_prefill_gives_the_cpus_bits(cuda_ops: Ops, cpu_ops: Ops, kv_type: str) -> None:
    """Blocks of queries that see different splits; keys before every window are NaN and must not be read."""
    n, window = KV_SPLIT + 40, 30
    s = sequence(n, 1, 1, 32, list(range(10)), SEED)
    expected = whole(cpu_ops, s, kv_type, 10, window)
    assert same_bits(whole(cuda_ops, s, kv_type, 10, window), expected)
    s.k[: n - 8 - window + 1], s.v[: n - 8 - window + 1] = np.nan, np.nan
    assert same_bits(last_tokens(cuda_ops, [s], [8], kv_type, window)[0], expected[-8:])


def test_q8_0_rounds_what_is_hard_to_round_as_the_cpu_does(cuda_ops: Ops, cpu_ops: Ops) -> None:
    """Groups of zeros, of numbers too small and too large for an f16 scale, and infinite; the last group is short."""
    s = sequence(40, 2, 1, 80, [1, 0], SEED)
    for part in (s.k, s.v):
        part[3, 0, :32] = 0
        part[5, 0, 32:64] *= 1e-6
        part[7, 0, 64:] *= 1e-9
        part[9, 0, :32] *= 1e30
        part[11, 0, 70] = np.inf
    got, expected = whole(cuda_ops, s, "q8_0", 2), whole(cpu_ops, s, "q8_0", 2)
    assert same_bits(got[:9], expected[:9])
    assert np.isfinite(got[:9]).all()
    assert (np.isnan(got) == np.isnan(expected)).all(), "which bits a NaN has is nobody's promise"


@KV
@pytest.mark.parametrize("interleaved", [True, False])
def test_rotating_and_storing_in_one_launch_gives_the_cpus_bits(
    cuda_ops: Ops, cpu_ops: Ops, interleaved: bool, kv_type: str
) -> None:
    """30 of 40 dimensions rotated; what is stored is seen through attention; a padding token's is stored nowhere."""
    s = sequence(20, 6, 2, 40, [2, 0], SEED)
    turns = np.random.default_rng(SEED).uniform(-1, 1, (20, 15, 2)).astype(np.float32)

    def outputs(ops: Ops) -> np.ndarray:
        cache = new_cache(ops, [s], 3, kv_type)
        ops.begin_step()
        slots = s.slots(0, 20)
        if ops.name == "cuda":
            slots[19] = -1  # the CPU pads no pass
        rotation = Rotation(on(ops, turns), interleaved)
        arrays = [on(ops, x) for x in (s.q, s.k, s.v)]
        q = ops.rope_and_store(*arrays, rotation, cache, on(ops, slots))
        table = on(ops, np.array([s.blocks], np.int32))
        limits = [on(ops, np.array(x, np.int32)) for x in ([0, 20], [20])]
        return ops.to_host(ops.attention(q, cache, AttentionBatch(*limits, table), 0.2)).copy()

    expected = outputs(cpu_ops)
    for order in ORDERS:
        with thread_order(order):
            got = outputs(cuda_ops)
        assert same_bits(got[:19], expected[:19]), f"order {order}"
        assert np.isnan(got[19]).all(), "the last key was not stored, and what lay there is NaN"


@KV
@pytest.mark.parametrize("where", ["q", "k", "v"])
def test_a_nan_stays_in_its_sequence(cuda_ops: Ops, where: str, kv_type: str) -> None:
    good, bad = sequence(20, 4, 2, 64, [0], SEED), sequence(20, 4, 2, 64, [2], SEED + 1)
    getattr(bad, where)[12, 0, 5] = np.nan
    first, second = attend(
        cuda_ops, new_cache(cuda_ops, [good, bad], 3, kv_type), [(good, 0, 20), (bad, 0, 20)]
    )
    assert same_bits(first, whole(cuda_ops, good, kv_type, 3))
    assert np.isnan(second[12]).any()
    assert np.isfinite(second[:12]).all()


def test_heads_that_no_kernel_has_are_refused(cuda_ops: Ops) -> None:
    for head_dim in (65, 258):
        with pytest.raises(ValueError, match=f"heads of {head_dim} values"):
            cuda_ops.new_cache(PagedGroup(1, 1, head_dim), 1, 32)
