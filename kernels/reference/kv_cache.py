"""The reference's cache: the plain layout, [n_blocks, block_size, n_head_kv, head_dim], of either type."""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from kernels.kv_type import SCALE_DIMS, n_scales

LARGEST = 127  # kernels/common/kv_q8.h states the rule
F16_OVERFLOW = np.float32(65520)


class CachedValues(Protocol):
    """The keys, or the values, of one layer."""

    def put(self, blocks: np.ndarray, offsets: np.ndarray, x: np.ndarray) -> None:
        """x [n_tokens, n_head_kv, head_dim] float32 into the slots (block, offset)."""

    def take(self, blocks: np.ndarray) -> np.ndarray:
        """What attention computes with: float32 [n_blocks, block_size, n_head_kv, head_dim]."""


class LayerCache(NamedTuple):
    k: CachedValues
    v: CachedValues
    block_size: int


@dataclass(frozen=True)
class PlainValues:
    data: np.ndarray  # float16 or float32 [n_blocks, block_size, n_head_kv, head_dim]

    def put(self, blocks: np.ndarray, offsets: np.ndarray, x: np.ndarray) -> None:
        self.data[blocks, offsets] = x

    def take(self, blocks: np.ndarray) -> np.ndarray:
        return self.data[blocks].astype(np.float32)


@dataclass(frozen=True)
class Q8Values:
    q: np.ndarray  # int8 [n_blocks, block_size, n_head_kv, head_dim]
    d: np.ndarray  # float16 [n_blocks, block_size, n_head_kv, n_scales]

    def put(self, blocks: np.ndarray, offsets: np.ndarray, x: np.ndarray) -> None:
        self.q[blocks, offsets], self.d[blocks, offsets] = quantize(x)

    def take(self, blocks: np.ndarray) -> np.ndarray:
        scales = np.repeat(self.d[blocks].astype(np.float32), SCALE_DIMS, axis=-1)
        return self.q[blocks].astype(np.float32) * scales[..., : self.q.shape[-1]]


def new_values(kv_type: str, shape: tuple[int, int, int, int]) -> CachedValues:
    """Zeros of [n_blocks, block_size, n_head_kv, head_dim]. kv_type: of kernels/kv_type.py, or f32."""
    if kv_type != "q8_0":
        return PlainValues(np.zeros(shape, np.float16 if kv_type == "f16" else np.float32))
    return Q8Values(np.zeros(shape, np.int8), np.zeros((*shape[:-1], n_scales(shape[-1])), np.float16))


def quantize(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """x [..., head_dim] -> q int8 of the same shape, d float16 [..., n_scales]."""
    head_dim, scales = x.shape[-1], n_scales(x.shape[-1])
    padded = np.zeros((*x.shape[:-1], scales * SCALE_DIMS), np.float32)
    padded[..., :head_dim] = x
    blocks = padded.reshape(*x.shape[:-1], scales, SCALE_DIMS)
    finite = np.asarray(np.isfinite(blocks).all(axis=-1))
    d = np.abs(np.where(finite[..., None], blocks, 0)).max(axis=-1) / np.float32(LARGEST)
    good = finite & (d < F16_OVERFLOW)
    d16 = np.where(good, d, np.float32(np.nan)).astype(np.float16)
    used = good & (d16 != 0)
    divisor = np.where(used, d16, 1).astype(np.float32)[..., None]
    q = np.rint(np.where(used[..., None], blocks, 0) / divisor)
    q = np.clip(q, -LARGEST, LARGEST).astype(np.int8)
    return q.reshape(padded.shape)[..., :head_dim], d16
