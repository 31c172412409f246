"""Types of 32 weights under one float16 factor (kernels/common/legacy_blocks.h)."""

import numpy as np

from kernels.reference.formats.blocks import Blocks, Decoder
from kernels.reference.formats.fields import bits, f16, low_nibbles, ones, u8, u32


def _fifth_bits(blocks: np.ndarray, at: int) -> np.ndarray:
    """Bit 4 of 32 codes, from 32 bits."""
    return bits(u32(blocks, at, 1)[:, :, 0], 32).astype(np.int32) << 4


def _with_minimum(codes: np.ndarray, blocks: np.ndarray) -> Blocks:
    """Codes under d and a minimum m that is added: dmin = -m."""
    return Blocks(codes, ones(blocks), d=f16(blocks, 0), min=ones(blocks), dmin=-f16(blocks, 2))


def _q4_0(blocks: np.ndarray, header: np.ndarray) -> Blocks:
    return Blocks(low_nibbles(u8(blocks, 2, 16)) - 8, ones(blocks), d=f16(blocks, 0))


def _q4_1(blocks: np.ndarray, header: np.ndarray) -> Blocks:
    return _with_minimum(low_nibbles(u8(blocks, 4, 16)), blocks)


def _q5_0(blocks: np.ndarray, header: np.ndarray) -> Blocks:
    codes = low_nibbles(u8(blocks, 6, 16)) | _fifth_bits(blocks, 2)
    return Blocks(codes - 16, ones(blocks), d=f16(blocks, 0))


def _q5_1(blocks: np.ndarray, header: np.ndarray) -> Blocks:
    return _with_minimum(low_nibbles(u8(blocks, 8, 16)) | _fifth_bits(blocks, 4), blocks)


def _q8_0(blocks: np.ndarray, header: np.ndarray) -> Blocks:
    return Blocks(blocks[:, :, 2:].astype(np.int8).astype(np.int32), ones(blocks), d=f16(blocks, 0))


def _q6_0(blocks: np.ndarray, header: np.ndarray) -> Blocks:
    pairs, low = u8(blocks, 2, 8), u8(blocks, 10, 16)
    nibbles = np.concatenate([pairs & 15, pairs >> 4], axis=2)  # of weights j and 16 + j
    q = np.concatenate([low & 15 | (nibbles & 3) << 4, low >> 4 | (nibbles >> 2) << 4], axis=2) - 32
    return Blocks(q, ones(blocks), d=f16(blocks, 0))


DECODERS: dict[str, Decoder] = {
    "Q4_0": _q4_0,
    "Q4_1": _q4_1,
    "Q5_0": _q5_0,
    "Q5_1": _q5_1,
    "Q8_0": _q8_0,
    "Q6_0": _q6_0,
}
