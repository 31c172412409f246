"""TQ1_0 and TQ2_0: weights -1, 0, 1 under a float16 factor (kernels/common/ternary_blocks.h)."""

import numpy as np

from kernels.reference.formats.blocks import Blocks, Decoder
from kernels.reference.formats.fields import f16, in_blocks, per_block, two_bit_plane, u8
from kernels.reference.tables import table


def _plain(codes: np.ndarray, d: np.ndarray) -> Blocks:
    q = in_blocks(codes - 1)
    return Blocks(q, np.ones((*q.shape[:2], 2), np.int32), d=per_block(d))


def _digits(values: np.ndarray, n: int) -> np.ndarray:
    """Base-3 digits 0 .. n - 1 of every byte, digit by digit: [n_out, n_super, n_bytes * n]"""
    tops = values[:, :, None, :] * table("kPowersOf3")[:n, None] & 255
    return (tops * 3 >> 8).reshape(*values.shape[:2], -1)


def _tq1_0(blocks: np.ndarray, header: np.ndarray) -> Blocks:
    parts = (_digits(u8(blocks, 0, 32), 5), _digits(u8(blocks, 32, 16), 5), _digits(u8(blocks, 48, 4), 4))
    return _plain(np.concatenate(parts, axis=2), f16(blocks, 52))


def _tq2_0(blocks: np.ndarray, header: np.ndarray) -> Blocks:
    return _plain(two_bit_plane(u8(blocks, 0, 64)), f16(blocks, 64))


DECODERS: dict[str, Decoder] = {
    "TQ1_0": _tq1_0,
    "TQ2_0": _tq2_0,
}
