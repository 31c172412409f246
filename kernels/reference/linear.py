"""The two judges of a linear operation (architecture decisions 3 and 4).

linear_exact says what is true: float64 over the plain weights times the gain. linear_int8 says which bits: the
one formula that every fast kernel computes, one row of weights against one row of activations, once for each plane
of these.
"""

import numpy as np

from kernels.reference.fma import fma32
from kernels.reference.formats import DENSE, decode, dequantize
from kernels.reference.formats.blocks import Blocks

SMALLEST_NORMAL = np.float32(2.0**-126)


def linear_exact(x: np.ndarray, type_name: str, data: np.ndarray, n_out: int) -> np.ndarray:
    """x [n_tokens, n_in] float32 -> float64 [n_tokens, n_out], the inference gain included."""
    return x.astype(np.float64) @ linear_weights(type_name, data, n_out, x.shape[1]).T


def linear_weights(type_name: str, data: np.ndarray, n_out: int, n_in: int) -> np.ndarray:
    """What a linear multiplies with: the plain weights times the gain, float64 [n_out, n_in]."""
    weights = dequantize(type_name, data, n_out, n_in).astype(np.float64)
    if type_name in DENSE:
        return weights
    blocks = decode(type_name, data, n_out, n_in)
    mean = 0.0 if blocks.mean is None else blocks.mean.astype(np.float64)[:, None]
    return (weights - mean) * float(np.float32(blocks.gain)) + mean


def quantize_activations(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """int8 per 32 columns: q int32 [n_tokens, n_blocks, 32], dx float32 [n_tokens, n_blocks].

    dx = amax / 127; q = round to even of x / dx. Where dx would be subnormal the block is zeros. A block with a
    NaN or an infinity has q = 0 and dx = NaN, so that its own token fails and no other.
    """
    blocks = x.reshape(len(x), -1, 32)
    finite = np.isfinite(blocks).all(axis=2)
    amax = np.abs(np.where(finite[:, :, None], blocks, 0)).max(axis=2)
    dx = (amax / np.float32(127)).astype(np.float32)
    used = finite & (dx >= SMALLEST_NORMAL)
    safe = np.where(used, dx, np.float32(1))[:, :, None]
    q = np.where(used[:, :, None], np.rint(np.where(finite[:, :, None], blocks, 0) / safe), 0).astype(
        np.int32
    )
    return q, np.where(used, dx, np.where(finite, np.float32(0), np.float32(np.nan)))


def left_by(x: np.ndarray, q: np.ndarray, dx: np.ndarray) -> np.ndarray:
    """x - q * dx [n_tokens, n_in] float32, one rounding a value: what the second plane quantizes."""
    return fma32(-q.astype(np.float32), dx[:, :, None], x.reshape(q.shape)).reshape(x.shape)


def linear_int8(x: np.ndarray, type_name: str, data: np.ndarray, n_out: int, planes: int = 1) -> np.ndarray:
    """x [n_tokens, n_in] float32 -> float32 [n_tokens, n_out], bit for bit what the kernels give.

    planes: 2 adds the product of what the first plane leaves of x. Dense types take x itself.
    """
    if type_name in DENSE:
        return _linear_dense(x, dequantize(type_name, data, n_out, x.shape[1]))
    w = decode(type_name, data, n_out, x.shape[1])
    q, dx = quantize_activations(x)
    y = _one_plane(w, q, dx)
    return y if planes == 1 else y + _one_plane(w, *quantize_activations(left_by(x, q, dx)))


def _one_plane(w: Blocks, q: np.ndarray, dx: np.ndarray) -> np.ndarray:
    return np.stack([_one_token(w, q[t], dx[t]) for t in range(len(q))])


def _one_token(w: Blocks, q: np.ndarray, dx: np.ndarray) -> np.ndarray:
    """q [n_blocks, 32], dx [n_blocks] -> [n_out]"""
    products = (w.q * q).reshape(*w.q.shape[:2], 2, 16).sum(axis=3)  # exact int64 [n_out, n_blocks, 2]
    dots = products.sum(axis=2) if w.d is None else (products * w.scale).sum(axis=2)
    sums = q.reshape(-1, 2, 16).sum(axis=2)  # [n_blocks, 2]
    acc = np.zeros((4, len(w.q)), np.float32)
    mean_acc = np.zeros(4, np.float32)
    for b in range(len(q)):
        p = b % 8 // 2
        s = w.scale[:, b, 0].astype(np.float32) if w.d is None else w.d[:, b]
        acc[p] = fma32(dots[:, b].astype(np.float32), dx[b] * s, acc[p])
        if w.min is not None and w.dmin is not None:
            minimum = (w.min[:, b] * sums[b]).sum(axis=1).astype(np.float32)
            acc[p] = fma32(minimum, dx[b] * -w.dmin[:, b], acc[p])
        total = sums[b : b + 1].sum(axis=1).astype(np.float32)
        mean_acc[p] = fma32(total, dx[b : b + 1], mean_acc[p : p + 1])[0]
    tree = (acc[0] + acc[1]) + (acc[2] + acc[3])
    if w.row_d is None:
        return tree
    y = w.row_d * np.float32(w.gain) * np.float32(w.step) * tree
    if w.mean is None:
        return y
    mean_tree = (mean_acc[:1] + mean_acc[1:2]) + (mean_acc[2:3] + mean_acc[3:])
    return fma32(w.mean, np.broadcast_to(mean_tree, w.mean.shape), y)


def _linear_dense(x: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Float matrices: the same four chains, one fma a weight, columns ascending."""
    acc = np.zeros((4, len(x), len(weights)), np.float32)
    for k in range(x.shape[1]):
        p = k // 32 % 8 // 2
        acc[p] = fma32(x[:, k : k + 1], weights[None, :, k], acc[p])
    return (acc[0] + acc[1]) + (acc[2] + acc[3])
