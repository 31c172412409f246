"""The operations of an indexer, which picks the tokens that a token attends to: part of `Ops` (ops.py).

DeepSeek Sparse Attention, DeepSeek-V3.2-Exp, 2025: a few small heads score all cached tokens, the best `top_k` are
kept, and latent attention runs over their rows alone. The keys that are scored lie in a cache of a `LatentGroup`,
in a model of an exact one.
"""

from typing import Protocol

from kernels.batches import Array, AttentionBatch, LayerCache


class IndexerOps(Protocol):
    """One backend's operations of an indexer."""

    #: Without them a model that has an indexer is held to contexts of which it picks every token.
    has_indexer: bool

    def layer_norm(self, x: Array, weight: Array, bias: Array, eps: float) -> Array:
        """(x - mean) / sqrt(variance + eps) * weight + bias over the last axis of x [n_rows, n]."""

    def choose_keys(
        self, q: Array, weights: Array, cache: LayerCache, batch: AttentionBatch, top_k: int
    ) -> Array:
        """The positions that each token is to see: int32 [n_tokens, top_k], rising, and -1 after the last of them.

        q [n_tokens, n_head, width], weights [n_tokens, n_head]. Key j's score is the sum over the heads of
        weight * max(0, q . key j). Of the keys up to the token itself the top_k best are chosen, ties by the lower
        position, a NaN after every number; where there are no more than top_k, all.
        """

    def sparse_latent_attention(
        self, q: Array, cache: LayerCache, batch: AttentionBatch, scale: float, chosen: Array
    ) -> Array:
        """`latent_attention` where a token sees the rows at its chosen positions only, as if no others were.

        chosen: of `choose_keys`. Where it names every position before the token, the bits are `latent_attention`'s.
        """
