"""Attention on tensor cores: close to float64, and the same bits for a query in any company and launch.

The tolerance is of the largest value that the cache holds, since outputs are means of values. With scores of up to 20
in float32 and everything else as two halves, 22 bits, a weight is right to 20 * 2**-22; sums of 300 add less. On a
card a product's own sum is cut, not rounded, which costs a few more times 2**-23.
"""

from itertools import pairwise

import numpy as np
import pytest

from kernels.batches import AttentionBatch
from kernels.cache_groups import PagedGroup
from kernels.cuda import attention_launch
from kernels.kv_type import KV_TYPES
from kernels.ops import KV_SPLIT, Ops
from support.cuda_device import ORDERS, SEED, thread_order
from support.sequences import (
    Sequence,
    attend,
    in_float64,
    last_tokens,
    new_cache,
    on,
    ragged,
    same_bits,
    sequence,
    whole,
)

KV = pytest.mark.parametrize("kv_type", KV_TYPES)
TOLERANCE = 1e-5
#: (n_head, n_head_kv, head_dim): groups of 1 to 8, and of more heads than a tile has rows; every build, full and not.
SHAPES = [
    *((2, 2, 64), (4, 2, 128), (3, 1, 80), (4, 1, 64), (5, 1, 48), (6, 1, 16), (7, 1, 112)),
    *((8, 1, 128), (4, 2, 256), (2, 1, 144), (20, 1, 64)),
]
#: One short of a step of keys, one, one more; the same of a split.
LENGTHS = [1, 63, 64, 65, KV_SPLIT - 1, KV_SPLIT, KV_SPLIT + 1]


def assert_close(got: np.ndarray, expected: np.ndarray, s: Sequence) -> None:
    np.testing.assert_allclose(got, expected, rtol=0, atol=TOLERANCE * float(np.abs(s.v).max()))


@KV
@pytest.mark.parametrize(("n_head", "n_head_kv", "head_dim"), SHAPES)
def test_a_prefill_is_close_to_float64(
    tensor_ops: Ops, n_head: int, n_head_kv: int, head_dim: int, kv_type: str
) -> None:
    """Two steps of keys and a part; what lies behind them is NaN and must not be seen."""
    s = sequence(130, n_head, n_head_kv, head_dim, [3, 1, 5, 0, 2], SEED)
    assert_close(whole(tensor_ops, s, kv_type, 6), in_float64(s, kv_type), s)


@KV
@pytest.mark.parametrize(("n_head", "n_head_kv", "head_dim"), [(4, 1, 64), (3, 1, 112), (2, 1, 256)])
def test_ragged_decodes_are_close_to_float64(
    tensor_ops: Ops, n_head: int, n_head_kv: int, head_dim: int, kv_type: str
) -> None:
    seqs = ragged(LENGTHS, n_head, n_head_kv, head_dim, SEED)
    for s, got in zip(seqs, last_tokens(tensor_ops, seqs, [1] * len(seqs), kv_type), strict=True):
        assert_close(got, in_float64(s, kv_type)[-1:], s)


@KV
def test_a_long_prefill_is_close_to_float64(tensor_ops: Ops, kv_type: str) -> None:
    """Past a split, so that a token's parts are merged."""
    s = sequence(KV_SPLIT + 20, 3, 1, 32, list(range(9)), SEED)
    assert_close(whole(tensor_ops, s, kv_type, 9), in_float64(s, kv_type), s)


@KV
@pytest.mark.parametrize("window", [1, 50, 64, KV_SPLIT + 3])
def test_a_window_is_close_to_float64(tensor_ops: Ops, window: int, kv_type: str) -> None:
    """Windows shorter than a tile's rows, than a step of keys, as long as one, and over two splits."""
    s = sequence(2 * KV_SPLIT + 20, 2, 1, 32, list(range(17)), SEED)
    assert_close(whole(tensor_ops, s, kv_type, 17, window), in_float64(s, kv_type, window), s)


@pytest.mark.parametrize("blocks_wanted", [0, 1 << 20])
def test_a_windows_bits_do_not_depend_on_chunks_or_launches(
    tensor_ops: Ops, monkeypatch: pytest.MonkeyPatch, blocks_wanted: int
) -> None:
    """Chunks and single tokens whose windows begin in other splits than their neighbours'; NaNs before them all."""
    n, window = 2 * KV_SPLIT + 6, 70
    s = sequence(n, 3, 1, 32, list(range(17)), SEED)
    expected = whole(tensor_ops, s, "f16", 17, window)
    monkeypatch.setattr(attention_launch, "SPLIT_BLOCKS_PER_MULTIPROCESSOR", blocks_wanted)
    s.k[: n - 100 - window + 1], s.v[: n - 100 - window + 1] = np.nan, np.nan
    cache = new_cache(tensor_ops, [s], 17, "f16")
    cuts = [0, n - 100, n - 61, n - 7, n - 6, n - 5, n]
    chunks = [attend(tensor_ops, cache, [(s, a, b)], window)[0] for a, b in pairwise(cuts)]
    assert same_bits(np.concatenate(chunks[1:]), expected[n - 100 :])


@KV
@pytest.mark.parametrize(("n_head", "n_head_kv", "head_dim"), [(4, 1, 64), (6, 2, 80), (2, 1, 256)])
def test_the_bits_do_not_depend_on_the_order_of_threads(
    tensor_ops: Ops, n_head: int, n_head_kv: int, head_dim: int, kv_type: str
) -> None:
    """Of a prefill beside three tokens of another sequence, and of decodes."""
    seqs = ragged([70, 40], n_head, n_head_kv, head_dim, SEED)

    def outputs() -> np.ndarray:
        passes = [last_tokens(tensor_ops, seqs, n_new, kv_type) for n_new in ([70, 3], [1, 1])]
        return np.concatenate([part for parts in passes for part in parts])

    with thread_order(ORDERS[0]):
        expected = outputs()
    for order in ORDERS[1:]:
        with thread_order(order):
            assert same_bits(outputs(), expected), f"order {order}"


@pytest.mark.slow
@KV
@pytest.mark.parametrize(("n_head", "n_head_kv", "head_dim"), [(4, 1, 64), (5, 1, 128), (2, 1, 256)])
def test_a_token_has_the_same_bits_alone_in_chunks_and_in_company(
    tensor_ops: Ops, n_head: int, n_head_kv: int, head_dim: int, kv_type: str
) -> None:
    """Chunks end within tiles, steps and splits; the last ones are single tokens, alone and beside a prefill."""
    n = KV_SPLIT + 10
    s, other = ragged([n, 90], n_head, n_head_kv, head_dim, SEED)
    n_blocks = len(s.blocks) + len(other.blocks)
    expected = whole(tensor_ops, s, kv_type, n_blocks)
    cache = new_cache(tensor_ops, [s, other], n_blocks, kv_type)
    cuts = [0, 1, 38, 64, 167, n - 8]
    chunks = [attend(tensor_ops, cache, [(s, a, b)])[0] for a, b in pairwise(cuts)]
    chunks += [attend(tensor_ops, cache, [(s, i, i + 1)])[0] for i in range(n - 8, n - 4)]
    chunks += [attend(tensor_ops, cache, [(other, 0, 45), (s, n - 4, n - 2)])[1]]
    chunks += [
        attend(tensor_ops, cache, [(s, i, i + 1), (other, 47 + i - n, 48 + i - n)])[0] for i in (n - 2, n - 1)
    ]
    assert same_bits(np.concatenate(chunks), expected)


@pytest.mark.slow
@KV
@pytest.mark.parametrize("head_dim", [64, 256])
def test_splits_in_blocks_of_their_own_give_the_same_bits(
    tensor_ops: Ops, monkeypatch: pytest.MonkeyPatch, head_dim: int, kv_type: str
) -> None:
    """Of decodes and of a prefill; contexts of one to three splits in one pass."""
    seqs = ragged([2 * KV_SPLIT + 5, 30, KV_SPLIT], 4, 2, head_dim, SEED)
    for n_new in ([1, 1, 1], [20, 30, 2]):
        results = []
        for blocks_wanted in (0, 1 << 20):
            monkeypatch.setattr(attention_launch, "SPLIT_BLOCKS_PER_MULTIPROCESSOR", blocks_wanted)
            results.append(np.concatenate(last_tokens(tensor_ops, seqs, n_new, kv_type)))
        assert same_bits(*results)


@KV
@pytest.mark.parametrize("blocks_wanted", [0, 1 << 20])
def test_padding_sequences_are_zeros(
    tensor_ops: Ops, monkeypatch: pytest.MonkeyPatch, blocks_wanted: int, kv_type: str
) -> None:
    """Context 0 beside a real sequence, whose bits stay; in a decode step and, with two real tokens, in a prefill."""
    monkeypatch.setattr(attention_launch, "SPLIT_BLOCKS_PER_MULTIPROCESSOR", blocks_wanted)
    s = sequence(40, 4, 1, 64, list(range(10)), SEED)
    for n_new in (1, 3):
        expected = last_tokens(tensor_ops, [s], [n_new], kv_type)[0]
        cache = new_cache(tensor_ops, [s], 10, kv_type)
        attend(tensor_ops, cache, [(s, 0, 40)])
        tensor_ops.begin_step()
        starts, lengths = np.array([0, n_new, n_new + 1], np.int32), np.array([40, 0], np.int32)
        table = np.array([s.blocks, [-1] * 10], np.int32)
        q = on(tensor_ops, np.concatenate([s.q[-n_new:], np.full((1, 4, 64), 7, np.float32)]))
        batch = AttentionBatch(*(on(tensor_ops, x) for x in (starts, lengths, table)))
        got = tensor_ops.to_host(tensor_ops.attention(q, cache, batch, 64**-0.5))
        assert same_bits(got[:n_new], expected)
        assert (got[n_new:] == 0).all()


@KV
@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("where", ["q", "k", "v"])
def test_what_is_not_finite_stays_with_the_rows_that_see_it(
    tensor_ops: Ops, where: str, value: float, kv_type: str
) -> None:
    """Position 70 of two KV heads: rows of its own tile and step that do not see it keep their bits."""
    good, bad = (sequence(140, 4, 2, 64, [1, 0, 4, 2, 3], SEED) for _ in range(2))
    getattr(bad, where)[70, 0, 5] = value
    expected, got = (whole(tensor_ops, s, kv_type, 5) for s in (good, bad))
    sees = np.zeros((140, 4), bool)
    if where == "q":
        sees[70, 0] = True
    else:
        sees[70:, :2] = True
    assert same_bits(got[~sees], expected[~sees])
    if where == "v" and kv_type == "f16":  # in q8_0 the scale of 32 values is NaN
        other_dims = np.arange(64) != 5
        assert same_bits(got[..., other_dims], expected[..., other_dims])
        assert not np.isfinite(got[sees][:, 5]).any()
    elif where == "v":
        assert not np.isfinite(got[sees][:, :32]).any()
    elif np.isnan(value) or where == "q":
        assert not np.isfinite(got[sees]).any()


def test_a_query_beyond_the_largest_half_is_not_finite_and_nothing_else_is(tensor_ops: Ops) -> None:
    s = sequence(20, 2, 1, 64, [0], SEED)
    s.q[4, 1] *= 1e7
    got = whole(tensor_ops, s, "f16", 1)
    bad = np.zeros((20, 2), bool)
    bad[4, 1] = True
    assert not np.isfinite(got[bad]).any()
    assert np.isfinite(got[~bad]).all()


def test_what_the_tensor_kernels_do_not_have_is_refused(tensor_ops: Ops) -> None:
    for head_dim in (24, 65, 272):
        with pytest.raises(
            ValueError, match=f"heads of {head_dim} values; --attention tensor has multiples of 16"
        ):
            tensor_ops.new_cache(PagedGroup(1, 1, head_dim), 1, 32)
    with pytest.raises(ValueError, match="blocks of 16 tokens; --attention tensor has multiples of 32"):
        tensor_ops.new_cache(PagedGroup(1, 1, 64), 1, 16)
