"""Multi-head latent attention, token by token: what each operation means (kernels/latent_ops.py)."""

from typing import NamedTuple

import numpy as np

from kernels.batches import AttentionBatch
from kernels.cache_groups import LatentGroup
from kernels.reference.attention import attend
from kernels.reference.kv_cache import CachedValues, new_values


class LatentCache(NamedTuple):
    """One layer's rows, in the plain layout with one head."""

    rows: CachedValues  # [n_blocks, block_size, 1, width]
    block_size: int
    value_width: int


class ReferenceLatentOps:
    """Keys and values are two views of the same rows."""

    def store_latent(self, rows: np.ndarray, cache: LatentCache, slots: np.ndarray) -> None:
        cache.rows.put(*np.divmod(slots, cache.block_size), rows[:, None])

    def latent_attention(
        self, q: np.ndarray, cache: LatentCache, batch: AttentionBatch, scale: float
    ) -> np.ndarray:
        out = np.empty((*q.shape[:2], cache.value_width), np.float32)
        for i, context_len in enumerate(batch.context_lens):
            start, end = batch.query_start[i], batch.query_start[i + 1]
            n_blocks = -(-context_len // cache.block_size)
            rows = np.concatenate(cache.rows.take(batch.block_table[i, :n_blocks]))
            for token in range(start, end):
                seen = rows[: context_len - (end - 1 - token)]
                out[token] = attend(q[token], seen, seen[..., : cache.value_width], scale)
        return out

    def concat(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.concatenate([x, y], axis=-1)


def new_latent_cache(group: LatentGroup, n_blocks: int, block_size: int, kv_type: str) -> list[LatentCache]:
    """One cache a layer. Zeroed."""
    shape = (n_blocks, block_size, 1, group.width)
    return [
        LatentCache(new_values(group.row_type(kv_type), shape), block_size, group.value_width)
        for _ in range(group.n_layer)
    ]
