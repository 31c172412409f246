"""The operations of an indexer on the CPU: shapes here, the rest in kernels/cpu/indexer_pass.h and indexer.h."""

import numpy as np

from kernels.batches import AttentionBatch
from kernels.cpu._native import Backend
from kernels.cpu.arena import Arena
from kernels.cpu.latent_ops import LatentCache


class CpuIndexerOps:
    """Scores are held for a few tokens at a time."""

    has_indexer = True
    _native: Backend
    _arena: Arena

    def layer_norm(self, x: np.ndarray, weight: np.ndarray, bias: np.ndarray, eps: float) -> np.ndarray:
        out = self._arena.take(*x.shape)
        self._native.layer_norm(x, weight, bias, eps, out)
        return out

    def choose_keys(
        self, q: np.ndarray, weights: np.ndarray, cache: LatentCache, batch: AttentionBatch, top_k: int
    ) -> np.ndarray:
        chosen = self._arena.take(len(q), top_k).view(np.int32)
        self._native.choose_keys(q, weights, *cache[:-1], *batch, chosen)
        return chosen

    def sparse_latent_attention(
        self, q: np.ndarray, cache: LatentCache, batch: AttentionBatch, scale: float, chosen: np.ndarray
    ) -> np.ndarray:
        out = self._arena.take(*q.shape[:2], cache.value_width)
        self._native.sparse_latent_attention(q, *cache[:-1], *batch, scale, chosen, out)
        return out
