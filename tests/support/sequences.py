"""Sequences for attention tests: queries, keys and values, and where they lie in a paged cache of any backend."""

from dataclasses import dataclass, is_dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from kernels.batches import AttentionBatch
from kernels.cache_groups import PagedGroup
from kernels.ops import Ops
from kernels.reference.kv_cache import new_values

BLOCK = 32
NAN_BYTE = 0x7E  # two of them are a NaN in f16: as a value, and as the scale of a q8_0


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


def ragged(lengths: list[int], n_head: int, n_head_kv: int, head_dim: int, seed: int = 0) -> list[Sequence]:
    """Sequences of these lengths, the blocks of each from its last to its first."""
    seqs, first = [], 0
    for i, n in enumerate(lengths):
        end = first - (-n // BLOCK)
        seqs.append(sequence(n, n_head, n_head_kv, head_dim, list(range(first, end))[::-1], seed + i))
        first = end
    return seqs


def on(ops: Ops, x: np.ndarray) -> Any:
    """A host array, int32 or float32, as the backend's own."""
    return ops.index_array(x) if x.dtype == np.int32 else ops.load_vector(x.reshape(-1)).reshape(*x.shape)


def new_cache(ops: Ops, seqs: list[Sequence], n_blocks: int, kv_type: str) -> Any:
    """One layer of NaNs: what nobody stored may be anything."""
    _, n_head_kv, head_dim = seqs[0].k.shape
    cache = ops.new_cache(PagedGroup(1, n_head_kv, head_dim), n_blocks, BLOCK, kv_type)[0]
    if ops.name == "cuda":
        _store_nans(ops, cache, n_blocks * BLOCK, n_head_kv, head_dim)
    else:
        for array in cache_arrays(cache):
            array.view(np.uint8)[:] = NAN_BYTE
    return cache


def _store_nans(ops: Ops, cache: Any, n_slots: int, n_head_kv: int, head_dim: int) -> None:
    """Where the host cannot write the cache."""
    nothing = on(ops, np.full((n_slots, n_head_kv, head_dim), np.nan, np.float32))
    ops.begin_step()
    ops.store_kv(nothing, nothing, cache, on(ops, np.arange(n_slots, dtype=np.int32)))
    ops.to_host(nothing)  # waits for the store


def cache_arrays(cache: Any) -> list[np.ndarray]:
    """The arrays that a CPU's or the reference's cache consists of."""
    fields = [cache.k, cache.v]
    parts = [list(vars(f).values()) if is_dataclass(f) else [f] for f in fields]
    return [array for part in parts for array in part]


def attend(
    ops: Ops, cache: Any, parts: list[tuple[Sequence, int, int]], window: int | None = None
) -> list[np.ndarray]:
    """One pass over tokens [first, last) of each sequence, stored and attended; outputs by sequence."""
    ops.begin_step()
    lengths = [last - first for _, first, last in parts]
    join = lambda name: on(ops, np.concatenate([getattr(s, name)[a:b] for s, a, b in parts]))  # noqa: E731
    slots = np.concatenate([s.slots(a, b) for s, a, b in parts])
    ops.store_kv(join("k"), join("v"), cache, on(ops, slots))
    table = np.full((len(parts), max(len(s.blocks) for s, _, _ in parts)), -1, np.int32)
    for row, (s, _, _) in zip(table, parts, strict=True):
        row[: len(s.blocks)] = s.blocks
    starts = np.cumsum([0, *lengths]).astype(np.int32)
    arrays = (starts, np.array([b for _, _, b in parts], np.int32), table)
    batch = AttentionBatch(*(on(ops, array) for array in arrays))
    scale = parts[0][0].q.shape[2] ** -0.5
    out = ops.to_host(ops.attention(join("q"), cache, batch, scale, window)).copy()
    return [out[a:b] for a, b in pairwise(starts)]


def last_tokens(
    ops: Ops, seqs: list[Sequence], n_new: list[int], kv_type: str, window: int | None = None
) -> list[np.ndarray]:
    """The outputs of each sequence's last tokens, over a cache that the ones before them filled."""
    cache = new_cache(ops, seqs, 1 + max(max(s.blocks) for s in seqs), kv_type)
    for s, n in zip(seqs, n_new, strict=True):
        if len(s.k) > n:
            store(ops, cache, s, len(s.k) - n)
    parts = [(s, len(s.q) - n, len(s.q)) for s, n in zip(seqs, n_new, strict=True)]
    return attend(ops, cache, parts, window)


def store(ops: Ops, cache: Any, s: Sequence, n: int) -> None:
    """The keys and values of the first n tokens."""
    ops.begin_step()
    k = on(ops, s.k[:n])
    ops.store_kv(k, on(ops, s.v[:n]), cache, on(ops, s.slots(0, n)))
    ops.to_host(k)  # waits for the store


def whole(ops: Ops, s: Sequence, kv_type: str, n_blocks: int = 40, window: int | None = None) -> np.ndarray:
    return attend(ops, new_cache(ops, [s], n_blocks, kv_type), [(s, 0, len(s.q))], window)[0]


def in_float64(s: Sequence, kv_type: str, window: int | None = None) -> np.ndarray:
    """Attention of the whole sequence over what a cache of that type holds, by its definition."""
    n, n_head, head_dim = s.q.shape
    group = n_head // s.k.shape[1]
    positions = np.arange(n)
    k, v = (_as_stored(x, kv_type)[:, np.arange(n_head) // group] for x in (s.k, s.v))
    scores = np.einsum("ihd,jhd->hij", s.q.astype(np.float64), k) * float(np.float32(head_dim**-0.5))
    distance = positions[:, None] - positions
    scores[:, (distance < 0) | (distance >= (window or n))] = -np.inf
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return np.einsum("hij,jhd->ihd", weights / weights.sum(axis=-1, keepdims=True), v)


def _as_stored(x: np.ndarray, kv_type: str) -> np.ndarray:
    """x [n_tokens, n_head_kv, head_dim] after a round trip through the reference's cache, in float64."""
    values = new_values(kv_type, (1, *x.shape))
    values.put(np.zeros(len(x), np.int32), np.arange(len(x)), x)
    return values.take(np.array([0]))[0].astype(np.float64)


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    return bool((a.view(np.uint32) == b.view(np.uint32)).all())
