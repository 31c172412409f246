"""Multi-head latent attention, which the CUDA backend does not have."""

from typing import NoReturn

from kernels.batches import Array, AttentionBatch, LayerCache


def _refuse() -> NoReturn:
    raise ValueError("the CUDA backend does not run multi-head latent attention yet; --device cpu does")


class CudaLatentOps:
    """Refuses every operation of kernels/latent_ops.py."""

    def store_latent(self, rows: Array, cache: LayerCache, slots: Array) -> None:
        _refuse()

    def latent_attention(self, q: Array, cache: LayerCache, batch: AttentionBatch, scale: float) -> Array:
        _refuse()
