"""Multi-head latent attention, which the CUDA backend does not have."""

import math
from collections.abc import Callable
from typing import NoReturn

from kernels.batches import Array, AttentionBatch, LayerCache
from kernels.cuda.arena import Arena, DeviceArray

THREADS = 256


def _refuse() -> NoReturn:
    raise ValueError("the CUDA backend does not run multi-head latent attention yet; --device cpu does")


class CudaLatentOps:
    """Refuses attention over latents (kernels/latent_ops.py)."""

    _arena: Arena
    _run: Callable[..., None]

    def store_latent(self, rows: Array, cache: LayerCache, slots: Array) -> None:
        _refuse()

    def latent_attention(self, q: Array, cache: LayerCache, batch: AttentionBatch, scale: float) -> Array:
        _refuse()

    def concat(self, x: DeviceArray, y: DeviceArray) -> DeviceArray:
        n, m = x.shape[-1], y.shape[-1]
        out = self._arena.take(*x.shape[:-1], n + m)
        grid = (math.prod(x.shape[:-1]), -(-(n + m) // THREADS))
        self._run("activations", "concat", grid, THREADS, x, y, n, m, out)
        return out
