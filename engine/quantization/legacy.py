"""Float weights to Q8_0: 32 weights, one f16 scale, nothing to search."""

import numpy as np

from kernels.quant_tensor import TYPES

BLOCK = TYPES["Q8_0"].block_size


def quantize_q8_0(weights: np.ndarray) -> np.ndarray:
    """File bytes of a matrix, uint8 [n_out, row_bytes]. weights [n_out, n_in] float32, n_in a multiple of 32."""
    n_out, n_in = weights.shape
    if n_in % BLOCK:
        raise ValueError(f"Q8_0 rows hold a multiple of {BLOCK} weights; the matrix is {weights.shape}")
    blocks = np.asarray(weights, np.float32).reshape(n_out, -1, BLOCK)
    d = (np.abs(blocks).max(axis=2, keepdims=True) / 127).astype("<f2")
    stored = d.astype(np.float32)
    q = np.rint(np.divide(blocks, stored, out=np.zeros_like(blocks), where=stored > 0))
    q = np.clip(q, -127, 127).astype(np.int8)
    return np.concatenate([d.view(np.uint8), q.view(np.uint8)], axis=2).reshape(n_out, -1)
