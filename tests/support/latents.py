"""Sequences for tests of latent attention: queries and rows, and where they lie in a paged cache of any backend."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from kernels.batches import AttentionBatch
from kernels.cache_groups import LatentGroup
from kernels.ops import Ops
from support.sequences import BLOCK, on


@dataclass
class LatentSequence:
    """Queries and rows of a whole sequence, and the blocks it lives in."""

    q: np.ndarray  # [n, n_head, width]
    rows: np.ndarray  # [n, width]
    value_width: int
    blocks: list[int]

    def slots(self, first: int, last: int) -> np.ndarray:
        positions = np.arange(first, last)
        return (np.array(self.blocks)[positions // BLOCK] * BLOCK + positions % BLOCK).astype(np.int32)

    @property
    def scale(self) -> float:
        return float(self.rows.shape[1] ** -0.5)


def latent_sequence(
    n: int, n_head: int, width: int, value_width: int, blocks: list[int], seed: int = 0
) -> LatentSequence:
    rng = np.random.default_rng([seed, n, n_head, width])
    q = rng.standard_normal((n, n_head, width)).astype(np.float32) * 2
    return LatentSequence(q, rng.standard_normal((n, width)).astype(np.float32), value_width, blocks)


def new_latents(ops: Ops, s: LatentSequence, n_blocks: int, kv_type: str) -> Any:
    """One layer of NaNs: what nobody stored may be anything."""
    width = s.rows.shape[1]
    cache = ops.new_cache(LatentGroup(1, width, s.value_width), n_blocks, BLOCK, kv_type)[0]
    ops.begin_step()
    nothing = on(ops, np.full((n_blocks * BLOCK, width), np.nan, np.float32))
    ops.store_latent(nothing, cache, on(ops, np.arange(n_blocks * BLOCK, dtype=np.int32)))
    ops.to_host(nothing)  # waits for the store
    return cache


def attend_latents(ops: Ops, cache: Any, parts: list[tuple[LatentSequence, int, int]]) -> list[np.ndarray]:
    """One pass over tokens [first, last) of each sequence, stored and attended; outputs by sequence."""
    ops.begin_step()
    slots = np.concatenate([s.slots(a, b) for s, a, b in parts])
    ops.store_latent(on(ops, np.concatenate([s.rows[a:b] for s, a, b in parts])), cache, on(ops, slots))
    table = np.full((len(parts), max(len(s.blocks) for s, _, _ in parts)), -1, np.int32)
    for row, (s, _, _) in zip(table, parts, strict=True):
        row[: len(s.blocks)] = s.blocks
    starts = np.cumsum([0, *(b - a for _, a, b in parts)]).astype(np.int32)
    ends = np.array([b for _, _, b in parts], np.int32)
    batch = AttentionBatch(*(on(ops, array) for array in (starts, ends, table)))
    q = on(ops, np.concatenate([s.q[a:b] for s, a, b in parts]))
    out = ops.to_host(ops.latent_attention(q, cache, batch, parts[0][0].scale)).copy()
    return [out[a:b] for a, b in pairwise(starts)]


def whole_latent(ops: Ops, s: LatentSequence, kv_type: str, n_blocks: int = 40) -> np.ndarray:
    return attend_latents(ops, new_latents(ops, s, n_blocks, kv_type), [(s, 0, len(s.q))])[0]
