"""The operations of an indexer, which the CUDA backend does not have: models are held to contexts that need none."""

from typing import NoReturn

from kernels.batches import Array, AttentionBatch, LayerCache


def _refuse() -> NoReturn:
    raise ValueError("the CUDA backend does not run indexers yet; --device cpu does")


class CudaIndexerOps:
    """Refuses every operation of kernels/indexer_ops.py."""

    has_indexer = False

    def layer_norm(self, x: Array, weight: Array, bias: Array, eps: float) -> Array:
        _refuse()

    def choose_keys(
        self, q: Array, weights: Array, cache: LayerCache, batch: AttentionBatch, top_k: int
    ) -> Array:
        _refuse()

    def sparse_latent_attention(
        self, q: Array, cache: LayerCache, batch: AttentionBatch, scale: float, chosen: Array
    ) -> Array:
        _refuse()
