"""Multi-head latent attention on the CPU: shapes here, the rest in kernels/cpu/latent_attention.h."""

from typing import NamedTuple

import numpy as np

from kernels.batches import AttentionBatch
from kernels.cache_groups import LatentGroup
from kernels.cpu._native import Backend, kv_bytes
from kernels.cpu.arena import Arena


class LatentCache(NamedTuple):
    """One layer's rows, laid out as the values of one head are (kernels/cpu/kv_cache.h)."""

    kv_type: str
    rows: np.ndarray  # uint8 [n_blocks, 1, bytes of a block]
    block_size: int
    width: int
    value_width: int


class CpuLatentOps:
    """Outputs read the rows as they lie; scores turn sixteen of them at a time, for many heads at once."""

    _native: Backend
    _arena: Arena

    def store_latent(self, rows: np.ndarray, cache: LatentCache, slots: np.ndarray) -> None:
        self._native.store_latent(rows, *cache[:-1], slots)

    def latent_attention(
        self, q: np.ndarray, cache: LatentCache, batch: AttentionBatch, scale: float
    ) -> np.ndarray:
        out = self._arena.take(*q.shape[:2], cache.value_width)
        self._native.latent_attention(q, *cache[:-1], *batch, scale, out)
        return out

    def concat(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        out = self._arena.take(*x.shape[:-1], x.shape[-1] + y.shape[-1])
        self._native.concat(x, y, out)
        return out


def new_latent_cache(group: LatentGroup, n_blocks: int, block_size: int, kv_type: str) -> list[LatentCache]:
    """One cache a layer. Zeroed."""
    row_type = group.row_type(kv_type)
    _, block_bytes = kv_bytes(row_type, block_size, group.width)
    return [
        LatentCache(
            row_type,
            np.zeros((n_blocks, 1, block_bytes), np.uint8),
            block_size,
            group.width,
            group.value_width,
        )
        for _ in range(group.n_layer)
    ]
