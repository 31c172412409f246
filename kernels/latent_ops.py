"""The operations of multi-head latent attention in its absorbed form: part of `Ops` (ops.py).

DeepSeek-V2, arXiv:2405.04434, 2.1. A cache of a `LatentGroup` holds one row for each token: the compressed latent,
and after it the part of the key that is rotated. Every head scores the whole row, and the first numbers of the same
row are its value: there is one copy of them, in f16 or q8_0. The matrices that take a head's query to the latent and
its result from there are stacks (`linear_heads` of expert_ops.py).
"""

from typing import Protocol

from kernels.batches import Array, AttentionBatch, LayerCache


class LatentOps(Protocol):
    """One backend's operations on caches of latents."""

    def store_latent(self, rows: Array, cache: LayerCache, slots: Array) -> None:
        """Write rows [n_tokens, width] into cache slots [n_tokens] (block_id * block_size + offset).

        In q8_0 each 32 numbers of a row share a scale, from its first number on (kernels/common/kv_q8.h).
        """

    def latent_attention(self, q: Array, cache: LayerCache, batch: AttentionBatch, scale: float) -> Array:
        """Causal attention over the paged rows: q [n_tokens, n_head, width] -> [n_tokens, n_head, value_width].

        As `attention` with one head of keys that all heads share: scores are scale * q.row, positions are summed in
        splits of KV_SPLIT, merged in order, and rows that a token may not see are not read for it.
        """

    def concat(self, x: Array, y: Array) -> Array:
        """[..., n] and [..., m], alike but for these -> [..., n + m]: a latent and the rotated part in one row."""
