"""Attention over the paged cache: right, and the same bits however a sequence is cut, batched or placed."""

from typing import Any

import numpy as np
import pytest

from kernels.batches import AttentionBatch
from kernels.cache_groups import PagedGroup
from kernels.cpu import _native
from kernels.cpu.ops import CpuOps
from kernels.kv_type import KV_TYPES, head_bytes
from kernels.ops import KV_SPLIT, Ops
from support.sequences import BLOCK, Sequence, attend, in_float64, new_cache, same_bits, sequence, whole


@pytest.fixture(params=KV_TYPES)
def kv_type(request: pytest.FixtureRequest) -> str:
    return request.param


SHAPES = [(4, 4, 64), (8, 2, 64), (8, 1, 128), (6, 2, 80), (4, 2, 24), (2, 1, 6)]


@pytest.mark.parametrize(("n_head", "n_head_kv", "head_dim"), SHAPES)
@pytest.mark.parametrize("n", [1, 33, 255, 257, 600])
def test_agrees_with_the_reference(
    cpu_ops: CpuOps, reference_ops: Ops, kv_type: str, n: int, n_head: int, n_head_kv: int, head_dim: int
) -> None:
    """Both read the same keys and values; what differs is the order of float32 sums over up to 600 keys."""
    s = sequence(n, n_head, n_head_kv, head_dim, list(range(3, 3 + -(-n // BLOCK))))
    np.testing.assert_allclose(
        whole(cpu_ops, s, kv_type), whole(reference_ops, s, kv_type), rtol=1e-4, atol=2e-6
    )


@pytest.mark.slow
@pytest.mark.parametrize(("n_head", "n_head_kv", "head_dim"), SHAPES)
def test_every_tier_and_thread_count_gives_the_same_bits(
    kv_type: str, n_head: int, n_head_kv: int, head_dim: int
) -> None:
    s = sequence(290, n_head, n_head_kv, head_dim, list(range(10)))
    expected = whole(CpuOps(threads=1, isa="scalar"), s, kv_type)
    for isa in _native.isa_tiers():
        for threads in (1, 2, 3):
            assert same_bits(whole(CpuOps(threads=threads, isa=isa), s, kv_type), expected)


#: One token, within a split, as long as one, more than that.
WINDOWS = [1, 40, KV_SPLIT, KV_SPLIT + 9]


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize(("n_head", "n_head_kv", "head_dim"), [(6, 2, 80), (40, 1, 16)])
def test_a_window_is_what_the_definition_says(
    cpu_ops: CpuOps, reference_ops: Ops, kv_type: str, n_head: int, n_head_kv: int, head_dim: int, window: int
) -> None:
    """As the reference, and as float64 to what scores of up to 30 in float32 leave of the weights.

    40 heads of a token are more than rows of one tile.
    """
    s = sequence(290, n_head, n_head_kv, head_dim, list(range(10)))
    got = whole(cpu_ops, s, kv_type, window=window)
    np.testing.assert_allclose(got, whole(reference_ops, s, kv_type, window=window), rtol=1e-4, atol=2e-6)
    np.testing.assert_allclose(got, in_float64(s, kv_type, window), rtol=0, atol=2e-5)


@pytest.mark.parametrize("window", WINDOWS)
def test_a_windows_bits_do_not_depend_on_chunks_tiers_or_threads(kv_type: str, window: int) -> None:
    s = sequence(280, 6, 2, 24, list(range(9)))
    expected = whole(CpuOps(threads=1, isa="scalar"), s, kv_type, window=window)
    for isa, cut in zip(_native.isa_tiers(), (37, 3, 120), strict=False):
        ops = CpuOps(threads=2, isa=isa)
        cache = new_cache(ops, [s], 40, kv_type)
        parts = [attend(ops, cache, [(s, a, min(a + cut, 280))], window)[0] for a in range(0, 280, cut)]
        assert same_bits(np.concatenate(parts), expected), f"{isa}, chunks of {cut}"


def test_a_window_longer_than_the_context_changes_no_bit(cpu_ops: CpuOps, kv_type: str) -> None:
    s = sequence(300, 8, 2, 64, list(range(10)))
    assert same_bits(whole(cpu_ops, s, kv_type, window=300), whole(cpu_ops, s, kv_type))


def test_what_lies_before_a_window_never_matters(cpu_ops: CpuOps, kv_type: str) -> None:
    """NaN keys and values up to the token that the last 60 no longer see."""
    s = sequence(300, 6, 2, 64, list(range(10)))
    expected = whole(cpu_ops, s, kv_type, window=100)
    s.k[: 241 - 100], s.v[: 241 - 100] = np.nan, np.nan
    got = whole(cpu_ops, s, kv_type, window=100)
    assert same_bits(got[240:], expected[240:])
    assert np.isnan(got[239]).any()


def test_a_window_of_nothing_is_refused(cpu_ops: CpuOps) -> None:
    s = sequence(4, 2, 2, 16, [0])
    with pytest.raises(ValueError, match="a window has at least one position"):
        whole(cpu_ops, s, "f16", window=0)


@pytest.mark.parametrize("cut", [1, 7, 32, 100, 256, 299])
def test_chunks_of_any_length_equal_one_shot(cpu_ops: CpuOps, kv_type: str, cut: int) -> None:
    s = sequence(300, 8, 2, 64, list(range(10)))
    cache = new_cache(cpu_ops, [s], 40, kv_type)
    parts = [attend(cpu_ops, cache, [(s, a, min(a + cut, 300))])[0] for a in range(0, 300, cut)]
    assert same_bits(np.concatenate(parts), whole(cpu_ops, s, kv_type))


def test_any_company_and_any_blocks_give_the_same_bits(cpu_ops: CpuOps, kv_type: str) -> None:
    rng = np.random.default_rng(8)
    free = rng.permutation(40).tolist()
    lengths = (290, 1, 40, 64, 257)
    seqs = []
    for seed, n in enumerate(lengths):
        blocks, free = free[: -(-n // BLOCK)], free[-(-n // BLOCK) :]
        seqs.append(sequence(n, 8, 2, 64, blocks, seed))
    cache = new_cache(cpu_ops, seqs, 40, kv_type)
    n_before = [0, 0, 39, 10, 256]  # one is all prefill, two decode, two continue
    for s, n in zip(seqs, n_before, strict=True):
        if n:
            attend(cpu_ops, cache, [(s, 0, n)])
    parts = [(s, n, len(s.q)) for s, n in zip(seqs, n_before, strict=True)]
    for s, n, got in zip(seqs, n_before, attend(cpu_ops, cache, parts), strict=True):
        plain = Sequence(s.q, s.k, s.v, list(range(len(s.blocks))))
        assert same_bits(got, whole(cpu_ops, plain, kv_type)[n:])


def test_what_nobody_stored_never_matters(cpu_ops: CpuOps, kv_type: str) -> None:
    """Caches start as NaN here; the outputs above are finite, and equal to those over a cache of zeros."""
    s = sequence(45, 8, 2, 80, [3, 1])
    zeroed = cpu_ops.new_cache(PagedGroup(1, 2, 80), 40, BLOCK, kv_type)[0]
    got = whole(cpu_ops, s, kv_type)
    assert np.isfinite(got).all()
    assert same_bits(got, attend(cpu_ops, zeroed, [(s, 0, 45)])[0])


@pytest.mark.parametrize("where", ["q", "k", "v"])
def test_a_nan_stays_in_its_sequence(cpu_ops: CpuOps, kv_type: str, where: str) -> None:
    good, bad = sequence(50, 8, 2, 64, [0, 1]), sequence(50, 8, 2, 64, [2, 3], seed=1)
    getattr(bad, where)[20, 0, 5] = np.nan
    cache = new_cache(cpu_ops, [good, bad], 8, kv_type)
    first, second = attend(cpu_ops, cache, [(good, 0, 50), (bad, 0, 50)])
    assert same_bits(first, whole(cpu_ops, good, kv_type))
    assert np.isnan(second[20]).any()
    assert np.isfinite(second[:20]).all()


def test_passes_that_do_not_fit_the_cache_are_refused(cpu_ops: CpuOps) -> None:
    s = sequence(40, 4, 2, 16, [0, 1])
    cache = cpu_ops.new_cache(PagedGroup(1, 2, 16), 2, BLOCK)[0]
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


def odd_numbers(n: int, n_head_kv: int, head_dim: int) -> np.ndarray:
    """Keys of every size: zeros, one below what f16 can scale, subnormal scales, large ones, NaN and infinity."""
    x = np.random.default_rng(3).standard_normal((n, n_head_kv, head_dim)).astype(np.float32)
    x *= np.float32(10.0) ** np.linspace(-9, 6, n, dtype=np.float32)[:, None, None]
    x[1, 0, :32] = 0
    x[2, 0, 3], x[3, 0, 1], x[4, 0, 0] = np.nan, -np.inf, 127 * 65530.0
    return x


@pytest.mark.parametrize("isa", _native.isa_tiers())
@pytest.mark.parametrize("head_dim", [6, 24, 64, 80])
def test_q8_0_stores_the_bits_of_the_reference(isa: str, head_dim: int, reference_ops: Ops) -> None:
    """Codes and scales of the keys; of the values what they stand for: a query of one key gives its value back."""
    ops, n = CpuOps(threads=1, isa=isa), 300
    x = odd_numbers(n, 2, head_dim)
    stored = reference_ops.new_cache(PagedGroup(1, 2, head_dim), 1, n, "q8_0")[0]
    reference_ops.store_kv(x, x, stored, np.arange(n, dtype=np.int32))
    cache = ops.new_cache(PagedGroup(1, 2, head_dim), n, BLOCK, "q8_0")[0]
    first_slots = np.arange(0, n * BLOCK, BLOCK, dtype=np.int32)  # one key in each of n blocks
    ops.store_kv(x, x, cache, first_slots)
    codes, scales = keys_of(cache, head_dim)
    np.testing.assert_array_equal(codes, stored.k.q[0])
    np.testing.assert_array_equal(scales, stored.k.d[0])
    assert np.isnan(scales).sum() == 3

    ops.store_kv(np.zeros_like(x), x, cache, first_slots)
    batch = AttentionBatch(
        np.arange(n + 1, dtype=np.int32), np.ones(n, np.int32), np.arange(n, dtype=np.int32)[:, None]
    )
    got = ops.attention(np.zeros((n, 2, head_dim), np.float32), cache, batch, 1.0)
    np.testing.assert_array_equal(got, stored.v.take(np.array([0]))[0])


def keys_of(cache: Any, head_dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Codes and scales of position 0 of every block, as kernels/cpu/kv_cache.h lays them out."""
    codes = cache.k[:, :, : head_dim * BLOCK].reshape(*cache.k.shape[:2], head_dim, BLOCK)
    scales = cache.k[:, :, head_dim * BLOCK :].view(np.float16).reshape(*cache.k.shape[:2], -1, BLOCK)
    return codes[..., 0].view(np.int8), scales[..., 0]


def test_q8_0_takes_half_of_f16_and_a_sixteenth(cpu_ops: CpuOps) -> None:
    f16, q8 = (cpu_ops.new_cache(PagedGroup(1, 2, 128), 4, BLOCK, name)[0] for name in ("f16", "q8_0"))
    for a, b in ((f16.k, q8.k), (f16.v, q8.v)):
        assert b.nbytes == a.nbytes * (head_bytes("q8_0", 128) / head_bytes("f16", 128)) == a.nbytes * 17 / 32


def test_q8_0_is_close_to_f16(cpu_ops: CpuOps) -> None:
    """A code is off by at most d / 2 = amax / 254, about 1 % of a normal value; scores and values average it out."""
    s = sequence(200, 8, 2, 64, list(range(7)))
    exact, rounded = whole(cpu_ops, s, "f16"), whole(cpu_ops, s, "q8_0")
    assert 0 < np.abs(rounded - exact).max() < 0.05
