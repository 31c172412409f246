"""Types of 32 weights under one float16 factor (kernels/common/legacy_blocks.h)."""

import numpy as np

from kernels.reference.formats.blocks import Blocks, Decoder
from kernels.reference.formats.fields import f16, u8


def _ones(blocks: np.ndarray) -> np.ndarray:
    return np.ones((*blocks.shape[:2], 2), np.int32)


def _q8_0(blocks: np.ndarray, header: np.ndarray) -> Blocks:
    return Blocks(blocks[:, :, 2:].astype(np.int8).astype(np.int32), _ones(blocks), d=f16(blocks, 0))


def _q6_0(blocks: np.ndarray, header: np.ndarray) -> Blocks:
    pairs, low = u8(blocks, 2, 8), u8(blocks, 10, 16)
    nibbles = np.concatenate([pairs & 15, pairs >> 4], axis=2)  # of weights j and 16 + j
    q = np.concatenate([low & 15 | (nibbles & 3) << 4, low >> 4 | (nibbles >> 2) << 4], axis=2) - 32
    return Blocks(q, _ones(blocks), d=f16(blocks, 0))


DECODERS: dict[str, Decoder] = {
    "Q8_0": _q8_0,
    "Q6_0": _q6_0,
}
