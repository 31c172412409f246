"""Fields of blocks and row headers, and the orders in which code bits lie (kernels/common/bit_planes.h).

Blocks are uint8 [n_out, n_file_blocks, block_bytes], headers uint8 [n_out, row_header_bytes].
"""

import numpy as np


def row_f32(header: np.ndarray, at: int = 0) -> np.ndarray:
    return np.ascontiguousarray(header[:, at : at + 4]).view("<f4")[:, 0]


def row_f16(header: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(header[:, :2]).view("<f2")[:, 0].astype(np.float32)


def f16(blocks: np.ndarray, at: int) -> np.ndarray:
    return np.ascontiguousarray(blocks[:, :, at : at + 2]).view("<f2")[:, :, 0].astype(np.float32)


def u16(blocks: np.ndarray, at: int, n: int = 1) -> np.ndarray:
    return np.ascontiguousarray(blocks[:, :, at : at + 2 * n]).view("<u2").astype(np.int32)


def u32(blocks: np.ndarray, at: int, n: int) -> np.ndarray:
    return np.ascontiguousarray(blocks[:, :, at : at + 4 * n]).view("<u4").astype(np.int64)


def u8(blocks: np.ndarray, at: int, n: int) -> np.ndarray:
    return blocks[:, :, at : at + n].astype(np.int32)


def bits(values: np.ndarray, n: int) -> np.ndarray:
    """Bit i of each value, i = 0 .. n - 1, on a new last axis."""
    return values[..., None] >> np.arange(n) & 1


def nibbles(values: np.ndarray) -> np.ndarray:
    """Low, then high nibble, on a new last axis."""
    return np.stack([values & 15, values >> 4], axis=-1)


def two_bit_plane(values: np.ndarray) -> np.ndarray:
    """64 bytes -> 256 codes: byte 32h + j, bits 2s, 2s + 1 is weight 128h + 32s + j."""
    halves = values.reshape(*values.shape[:2], 2, 1, 32)
    return (halves >> (2 * np.arange(4))[:, None] & 3).reshape(*values.shape[:2], 256)


def bit_plane(values: np.ndarray) -> np.ndarray:
    """32 bytes -> 256 bits: bit b of byte j is weight 32b + j."""
    return (values[:, :, None, :] >> np.arange(8)[:, None] & 1).reshape(*values.shape[:2], 256)


def nibbles_by(values: np.ndarray, width: int) -> np.ndarray:
    """n bytes -> 2n codes: of 2 * width weights, width bytes; low nibbles are the first half."""
    parts = values.reshape(*values.shape[:2], -1, 1, width)
    return (parts >> (4 * np.arange(2))[:, None] & 15).reshape(*values.shape[:2], -1)


def low_nibbles(values: np.ndarray) -> np.ndarray:
    """16 bytes -> 32 codes: low nibbles, then high nibbles."""
    return np.concatenate([values & 15, values >> 4], axis=2)


def ones(blocks: np.ndarray) -> np.ndarray:
    """The scales of a type without integer scales: [n_out, n_blocks, 2], for blocks of 32 weights."""
    return np.ones((*blocks.shape[:2], 2), np.int32)


def in_blocks(values: np.ndarray) -> np.ndarray:
    """[n_out, n_super, 256] -> [n_out, n_blocks, 32]"""
    return values.reshape(values.shape[0], -1, 32)


def per_block(values: np.ndarray, n: int = 8) -> np.ndarray:
    """A super-block's value, repeated for its 32-blocks: [n_out, n_super] -> [n_out, n_blocks]"""
    return np.repeat(values, n, axis=1)


def pairs(scales: np.ndarray) -> np.ndarray:
    """16 scales a super-block -> [n_out, n_blocks, 2]"""
    return scales.reshape(scales.shape[0], -1, 2)


def both(scales: np.ndarray) -> np.ndarray:
    """8 scales a super-block, each for both halves -> [n_out, n_blocks, 2]"""
    return np.repeat(scales.reshape(scales.shape[0], -1, 1), 2, axis=2)
