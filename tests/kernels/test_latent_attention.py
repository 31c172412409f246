"""Attention over cached latents: right, and the same bits however a sequence is cut, batched or placed."""

import numpy as np
import pytest

from kernels.batches import AttentionBatch
from kernels.cache_groups import LatentGroup
from kernels.cpu import _native
from kernels.cpu.ops import CpuOps
from kernels.kv_type import KV_TYPES, head_bytes
from kernels.ops import Ops
from support.latents import LatentSequence, attend_latents, latent_sequence, new_latents, whole_latent
from support.sequences import BLOCK, Sequence, same_bits, whole

#: n_head, width, value_width: DeepSeek's own widths, one head, more heads than share a walk over the rows, widths
#: that are no multiple of a vector or of a scale's 32 numbers, values that are the whole row.
SHAPES = [(4, 576, 512), (1, 80, 64), (40, 48, 32), (3, 41, 23), (5, 16, 16)]


@pytest.fixture(params=KV_TYPES)
def kv_type(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.mark.parametrize(("n_head", "width", "value_width"), SHAPES)
@pytest.mark.parametrize("n", [1, 33, 257])
def test_agrees_with_the_reference(
    cpu_ops: CpuOps, reference_ops: Ops, kv_type: str, n: int, n_head: int, width: int, value_width: int
) -> None:
    """Both read the same rows; what differs is the order of float32 sums over up to 576 numbers and 257 positions."""
    s = latent_sequence(n, n_head, width, value_width, list(range(3, 3 + -(-n // BLOCK))))
    got, expected = whole_latent(cpu_ops, s, kv_type), whole_latent(reference_ops, s, kv_type)
    assert got.shape == (n, n_head, value_width)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=5e-6)


@pytest.mark.parametrize("n_head", [1, 6])
def test_is_attention_with_one_head_of_keys_that_begin_as_the_values(
    cpu_ops: CpuOps, kv_type: str, n_head: int
) -> None:
    """Bit for bit: the sums are the same, only the layout of the cache is another."""
    s = latent_sequence(300, n_head, 96, 64, list(range(10)))
    rows = s.rows[:, None]
    plain = whole(cpu_ops, Sequence(s.q, rows, rows, s.blocks), kv_type)
    assert same_bits(whole_latent(cpu_ops, s, kv_type), np.ascontiguousarray(plain[..., :64]))


@pytest.mark.parametrize(("n_head", "width", "value_width"), SHAPES)
def test_every_tier_and_thread_count_gives_the_same_bits(
    kv_type: str, n_head: int, width: int, value_width: int
) -> None:
    s = latent_sequence(270, n_head, width, value_width, list(range(9)))
    s.q = s.q[-20:]  # of a context that spans two splits
    cut = lambda ops: last_rows(ops, s, kv_type)  # noqa: E731
    expected = cut(CpuOps(threads=1, isa="scalar"))
    for isa in _native.isa_tiers():
        for threads in (1, 3):
            assert same_bits(cut(CpuOps(threads=threads, isa=isa)), expected)


def last_rows(ops: Ops, s: LatentSequence, kv_type: str) -> np.ndarray:
    """The outputs of the queries that there are, which are those of the last tokens."""
    cache, n, n_new = new_latents(ops, s, 40, kv_type), len(s.rows), len(s.q)
    ops.begin_step()
    ops.store_latent(s.rows, cache, s.slots(0, n))
    arrays = ([0, n_new], [n], [s.blocks])
    batch = AttentionBatch(*(np.array(a, np.int32) for a in arrays))
    return np.array(ops.latent_attention(s.q, cache, batch, s.scale))


@pytest.mark.parametrize("cut", [1, 7, 100, 256, 299])
@pytest.mark.parametrize("n_head", [8, 40])
def test_chunks_of_any_length_equal_one_shot(cpu_ops: CpuOps, kv_type: str, n_head: int, cut: int) -> None:
    s = latent_sequence(300, n_head, 48, 32, list(range(10)))
    cache = new_latents(cpu_ops, s, 40, kv_type)
    parts = [attend_latents(cpu_ops, cache, [(s, a, min(a + cut, 300))])[0] for a in range(0, 300, cut)]
    assert same_bits(np.concatenate(parts), whole_latent(cpu_ops, s, kv_type))


def test_any_company_and_any_blocks_give_the_same_bits(cpu_ops: CpuOps, kv_type: str) -> None:
    rng = np.random.default_rng(8)
    free = rng.permutation(40).tolist()
    seqs = []
    for seed, n in enumerate((290, 1, 40, 64, 257)):
        blocks, free = free[: -(-n // BLOCK)], free[-(-n // BLOCK) :]
        seqs.append(latent_sequence(n, 8, 80, 64, blocks, seed))
    cache = new_latents(cpu_ops, seqs[0], 40, kv_type)
    n_before = [0, 0, 39, 10, 256]  # one is all prefill, two decode, two continue
    for s, n in zip(seqs, n_before, strict=True):
        if n:
            attend_latents(cpu_ops, cache, [(s, 0, n)])
    parts = [(s, n, len(s.q)) for s, n in zip(seqs, n_before, strict=True)]
    for s, n, got in zip(seqs, n_before, attend_latents(cpu_ops, cache, parts), strict=True):
        plain = LatentSequence(s.q, s.rows, 64, list(range(len(s.blocks))))
        assert same_bits(got, whole_latent(cpu_ops, plain, kv_type)[n:])


def test_what_nobody_stored_never_matters(cpu_ops: CpuOps, kv_type: str) -> None:
    """Caches start as NaN here; the outputs are finite, and equal to those over a cache of zeros."""
    s = latent_sequence(45, 8, 48, 32, [3, 1])
    zeroed = cpu_ops.new_cache(LatentGroup(1, 48, 32), 40, BLOCK, kv_type)[0]
    got = whole_latent(cpu_ops, s, kv_type)
    assert np.isfinite(got).all()
    assert same_bits(got, attend_latents(cpu_ops, zeroed, [(s, 0, 45)])[0])


@pytest.mark.parametrize("where", ["q", "rows"])
def test_a_nan_stays_in_its_sequence(cpu_ops: CpuOps, kv_type: str, where: str) -> None:
    good, bad = latent_sequence(50, 8, 80, 64, [0, 1]), latent_sequence(50, 8, 80, 64, [2, 3], seed=1)
    getattr(bad, where)[20, ..., 5] = np.nan
    cache = new_latents(cpu_ops, good, 8, kv_type)
    first, second = attend_latents(cpu_ops, cache, [(good, 0, 50), (bad, 0, 50)])
    assert same_bits(first, whole_latent(cpu_ops, good, kv_type))
    assert np.isnan(second[20]).any()
    assert np.isfinite(second[:20]).all()


@pytest.mark.parametrize("isa", _native.isa_tiers())
@pytest.mark.parametrize("width", [6, 48, 576])
def test_one_row_gives_itself_as_the_reference_stores_it(
    isa: str, width: int, kv_type: str, reference_ops: Ops
) -> None:
    """Values of every size, NaN and infinity: what a query of a single row gets back are the stored bits."""
    x = np.random.default_rng(3).standard_normal((40, width)).astype(np.float32)
    x *= np.float32(10.0) ** np.linspace(-9, 6, 40, dtype=np.float32)[:, None]
    x[1], x[2, 3], x[3, 1], x[4, 0] = 0, np.nan, -np.inf, 127 * 65530.0
    results = []
    for ops in (CpuOps(threads=1, isa=isa), reference_ops):
        cache = ops.new_cache(LatentGroup(1, width, width), 40, BLOCK, kv_type)[0]
        with np.errstate(over="ignore"):  # f16 ends at 65504
            ops.store_latent(x, cache, np.arange(0, 40 * BLOCK, BLOCK, dtype=np.int32))
        batch = AttentionBatch(
            np.arange(41, dtype=np.int32), np.ones(40, np.int32), np.arange(40, dtype=np.int32)[:, None]
        )
        results.append(ops.latent_attention(np.zeros((40, 1, width), np.float32), cache, batch, 1.0))
    np.testing.assert_array_equal(*results)


def test_a_cache_holds_one_copy_of_the_rows(cpu_ops: CpuOps, kv_type: str) -> None:
    """DeepSeek's 576 numbers: 1 152 bytes a token and layer in f16, 612 in q8_0."""
    group = LatentGroup(1, 576, 512)
    cache = cpu_ops.new_cache(group, 4, BLOCK, kv_type)[0]
    assert cache.rows.nbytes == 4 * BLOCK * group.token_bytes(kv_type)
    assert group.token_bytes(kv_type) == head_bytes(kv_type, 576) == {"f16": 1152, "q8_0": 612}[kv_type]


def test_passes_that_do_not_fit_the_cache_are_refused(cpu_ops: CpuOps) -> None:
    s = latent_sequence(40, 4, 48, 32, [0, 1])
    cache = cpu_ops.new_cache(LatentGroup(1, 48, 32), 2, BLOCK)[0]
    good = AttentionBatch(*(np.array(a, np.int32) for a in ([0, 40], [40], [[0, 1]])))
    assert cpu_ops.latent_attention(s.q, cache, good, 1.0).shape == (40, 4, 32)
    wrong = {"context_lens": [65], "block_table": [[0, 2]], "query_start": [0, 39]}
    for name, value in wrong.items():
        with pytest.raises(ValueError, match=r"attention|block"):
            cpu_ops.latent_attention(s.q, cache, good._replace(**{name: np.array(value, np.int32)}), 1.0)
    with pytest.raises(ValueError, match="slot 64 is outside"):
        cpu_ops.store_latent(s.rows, cache, np.full(40, 64, np.int32))
    with pytest.raises(ValueError, match="width"):
        cpu_ops.store_latent(s.rows[:, :47].copy(), cache, s.slots(0, 40))
