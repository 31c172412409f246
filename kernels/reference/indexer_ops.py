"""The operations of an indexer, token by token: what each means (kernels/indexer_ops.py)."""

from collections.abc import Iterator

import numpy as np

from kernels.batches import AttentionBatch
from kernels.reference.attention import attend
from kernels.reference.latent_ops import LatentCache


class ReferenceIndexerOps:
    """Scores and choices of one token at a time."""

    has_indexer = True

    def layer_norm(self, x: np.ndarray, weight: np.ndarray, bias: np.ndarray, eps: float) -> np.ndarray:
        centred = x - x.mean(axis=-1, keepdims=True, dtype=np.float32)
        variance = np.mean(np.square(centred), axis=-1, keepdims=True, dtype=np.float32)
        return centred / np.sqrt(variance + np.float32(eps)) * weight + bias

    def choose_keys(
        self, q: np.ndarray, weights: np.ndarray, cache: LatentCache, batch: AttentionBatch, top_k: int
    ) -> np.ndarray:
        chosen = np.full((len(q), top_k), -1, np.int32)
        for token, rows in _seen_rows(cache, batch):
            products = np.maximum(np.einsum("hd,kd->hk", q[token], rows), 0)
            order = np.argsort(-(weights[token] @ products), kind="stable")  # NaN comes last
            best = np.sort(order[:top_k])
            chosen[token, : len(best)] = best
        return chosen

    def sparse_latent_attention(
        self, q: np.ndarray, cache: LatentCache, batch: AttentionBatch, scale: float, chosen: np.ndarray
    ) -> np.ndarray:
        out = np.empty((*q.shape[:2], cache.value_width), np.float32)
        for token, rows in _seen_rows(cache, batch):
            picked = rows[chosen[token][chosen[token] >= 0], None]
            out[token] = attend(q[token], picked, picked[..., : cache.value_width], scale)
        return out


def _seen_rows(cache: LatentCache, batch: AttentionBatch) -> Iterator[tuple[int, np.ndarray]]:
    """Each token of a pass and the rows up to its own, [n_seen, width]."""
    for i, context_len in enumerate(batch.context_lens):
        start, end = batch.query_start[i], batch.query_start[i + 1]
        blocks = batch.block_table[i, : -(-context_len // cache.block_size)]
        rows = np.concatenate(cache.rows.take(blocks))[:, 0]
        for token in range(start, end):
            yield token, rows[: context_len - (end - 1 - token)]
