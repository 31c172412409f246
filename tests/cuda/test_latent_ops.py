"""Attention over cached latents on the device gives the CPU's bits: any heads and widths, split contexts."""

from itertools import pairwise

import numpy as np
import pytest

from kernels.batches import AttentionBatch
from kernels.cache_groups import LatentGroup
from kernels.cuda import latent_ops
from kernels.kv_type import KV_TYPES
from kernels.ops import KV_SPLIT, Ops
from support.cuda_device import ORDERS, SEED, thread_order
from support.latents import LatentSequence, attend_latents, latent_sequence, new_latents, whole_latent
from support.sequences import on, same_bits

KV = pytest.mark.parametrize("kv_type", KV_TYPES)
#: n_head, width, value_width: a block's heads, some more, few; rows that are no whole chunk, piece or four numbers.
SHAPES = [(16, 96, 64), (20, 80, 48), (3, 41, 23), (1, 32, 32)]
WIDE, NARROW = 0, 1 << 20  # blocks wanted for each multiprocessor: so that heads go by sixteens, and by fours


def decodes(ops: Ops, seqs: list[LatentSequence], kv_type: str) -> list[np.ndarray]:
    """The outputs of each sequence's last token, over rows that lie there."""
    cache = new_latents(ops, seqs[0], 1 + max(max(s.blocks) for s in seqs), kv_type)
    for s in seqs:
        ops.begin_step()
        rows = on(ops, s.rows)
        ops.store_latent(rows, cache, on(ops, s.slots(0, len(s.rows))))
        ops.to_host(rows)  # waits for the store
    return attend_latents(ops, cache, [(s, len(s.rows) - 1, len(s.rows)) for s in seqs])


def ragged(lengths: list[int], n_head: int, width: int, value_width: int) -> list[LatentSequence]:
    seqs, first = [], 0
    for i, n in enumerate(lengths):
        end = first - (-n // 32)
        seqs.append(latent_sequence(n, n_head, width, value_width, list(range(first, end))[::-1], SEED + i))
        first = end
    return seqs


@KV
@pytest.mark.parametrize(("n_head", "width", "value_width"), SHAPES)
@pytest.mark.parametrize("blocks_wanted", [WIDE, NARROW])
def test_ragged_decodes_give_the_cpus_bits_in_any_thread_order(
    cuda_ops: Ops,
    cpu_ops: Ops,
    monkeypatch: pytest.MonkeyPatch,
    blocks_wanted: int,
    n_head: int,
    width: int,
    value_width: int,
    kv_type: str,
) -> None:
    """One row, whole fours of rows and not, a split and one row of the next; what nobody stored is NaN."""
    monkeypatch.setattr(latent_ops, "WIDE_BLOCKS_PER_MULTIPROCESSOR", blocks_wanted)
    seqs = ragged([1, 38, KV_SPLIT, KV_SPLIT + 1], n_head, width, value_width)
    expected = decodes(cpu_ops, seqs, kv_type)
    for order in ORDERS:
        with thread_order(order):
            got = decodes(cuda_ops, seqs, kv_type)
        for i, (a, b) in enumerate(zip(got, expected, strict=True)):
            assert same_bits(a, b), f"order {order}, sequence {i}"


@KV
def test_splits_of_a_token_in_one_block_give_the_cpus_bits(
    cuda_ops: Ops, cpu_ops: Ops, monkeypatch: pytest.MonkeyPatch, kv_type: str
) -> None:
    """A prefill, whose blocks walk, past two splits; then chunks of it, and single tokens beside another sequence."""
    monkeypatch.setattr(latent_ops, "SPLIT_BLOCKS_PER_MULTIPROCESSOR", 0)
    s, other = ragged([2 * KV_SPLIT + 3, 20], 6, 48, 32)
    whole = attend_latents(cpu_ops, new_latents(cpu_ops, s, 20, kv_type), [(s, 0, len(s.q))])[0]
    cache = new_latents(cuda_ops, s, 20, kv_type)
    cuts = [0, 1, 2 * KV_SPLIT - 20, 2 * KV_SPLIT + 1]
    parts = [attend_latents(cuda_ops, cache, [(s, a, b)])[0] for a, b in pairwise(cuts)]
    parts += [
        attend_latents(cuda_ops, cache, [(other, i, i + 1), (s, n, n + 1)])[1]
        for i, n in enumerate((513, 514))
    ]
    assert same_bits(np.concatenate(parts), whole)


@KV
def test_deepseeks_own_widths_give_the_cpus_bits(cuda_ops: Ops, cpu_ops: Ops, kv_type: str) -> None:
    s = latent_sequence(40, 17, 576, 512, [1, 0], SEED)
    expected = decodes(cpu_ops, [s], kv_type)[0]
    assert same_bits(decodes(cuda_ops, [s], kv_type)[0], expected)


@KV
@pytest.mark.parametrize("splits_wanted", [0, 1 << 20])
def test_padding_sequences_are_zeros_and_store_nothing(
    cuda_ops: Ops, monkeypatch: pytest.MonkeyPatch, splits_wanted: int, kv_type: str
) -> None:
    """Context 0 and slot -1 beside a real sequence, whose bits stay; a table of two splits."""
    monkeypatch.setattr(latent_ops, "SPLIT_BLOCKS_PER_MULTIPROCESSOR", splits_wanted)
    s = latent_sequence(40, 4, 48, 32, list(range(10)), SEED)
    expected = decodes(cuda_ops, [s], kv_type)[0]
    cache = new_latents(cuda_ops, s, 10, kv_type)
    attend_latents(cuda_ops, cache, [(s, 0, 39)])
    cuda_ops.begin_step()
    rows = np.stack([s.rows[-1], np.full(48, 7, np.float32)])
    cuda_ops.store_latent(
        on(cuda_ops, rows), cache, on(cuda_ops, np.array([s.slots(39, 40)[0], -1], np.int32))
    )
    arrays = (
        np.array([0, 1, 2], np.int32),
        np.array([40, 0], np.int32),
        np.array([s.blocks, [-1] * 10], np.int32),
    )
    q = on(cuda_ops, np.concatenate([s.q[-1:], np.full((1, 4, 48), 7, np.float32)]))
    batch = AttentionBatch(*(on(cuda_ops, x) for x in arrays))
    got = cuda_ops.to_host(cuda_ops.latent_attention(q, cache, batch, s.scale))
    assert same_bits(got[:1], expected)
    assert (got[1:] == 0).all()


@KV
@pytest.mark.parametrize("where", ["q", "rows"])
def test_a_nan_stays_with_the_tokens_that_see_it(cuda_ops: Ops, where: str, kv_type: str) -> None:
    good, bad = (latent_sequence(20, 4, 48, 32, [0], SEED) for _ in range(2))
    getattr(bad, where)[12, ..., 5] = np.nan
    expected, got = (whole_latent(cuda_ops, s, kv_type, 1) for s in (good, bad))
    assert same_bits(got[:12], expected[:12])
    assert np.isnan(got[12]).any()
    if where == "q":
        assert same_bits(got[13:], expected[13:])


def test_q8_0_rounds_rows_that_are_hard_to_round_as_the_cpu_does(cuda_ops: Ops, cpu_ops: Ops) -> None:
    """Rows of zeros, and of numbers too small and too large for an f16 scale; the last group of 32 is short."""
    s = latent_sequence(12, 2, 80, 80, [0], SEED)
    s.rows[3, :32] = 0
    s.rows[5, 32:64] *= 1e-6
    s.rows[7, 64:] *= 1e-9
    s.rows[9, :32] *= 1e30
    got, expected = (whole_latent(ops, s, "q8_0", 1) for ops in (cuda_ops, cpu_ops))
    assert same_bits(got[:9], expected[:9])
    assert (np.isnan(got) == np.isnan(expected)).all(), "which bits a NaN has is nobody's promise"


def test_blocks_and_rows_that_no_kernel_has_are_refused(cuda_ops: Ops) -> None:
    with pytest.raises(ValueError, match="no rows of latents in float32"):
        cuda_ops.new_cache(LatentGroup(1, 48, 32, is_exact=True), 1, 32)
    with pytest.raises(ValueError, match="blocks of 12 tokens; the CUDA backend has multiples of 8"):
        cuda_ops.new_cache(LatentGroup(1, 48, 32), 1, 12)
