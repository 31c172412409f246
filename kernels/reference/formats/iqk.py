"""The IQK types: codes into non-linear tables (kernels/common/iqk_blocks.h)."""

import numpy as np

from kernels.reference.formats.blocks import Blocks, Decoder
from kernels.reference.formats.fields import (
    bit_plane,
    bits,
    both,
    f16,
    in_blocks,
    nibbles,
    nibbles_by,
    pairs,
    per_block,
    row_f32,
    two_bit_plane,
    u8,
    u16,
)
from kernels.reference.tables import table


def _iqk(blocks: np.ndarray, scales: np.ndarray, codes: np.ndarray, values: str, n_codes: int) -> Blocks:
    extra = np.repeat(bits(u16(blocks, 2)[:, :, 0], 16), 16, axis=2)
    q = in_blocks(table(values)[codes + n_codes * extra])
    return Blocks(q, pairs(scales), d=per_block(f16(blocks, 0)))


def _iq2_k(blocks: np.ndarray, header: np.ndarray) -> Blocks:
    scales = nibbles(u8(blocks, 4, 8)).reshape(*blocks.shape[:2], 16) - 8
    return _iqk(blocks, scales, two_bit_plane(u8(blocks, 12, 64)), "kTable2", 4)


def _iq3_k(blocks: np.ndarray, header: np.ndarray) -> Blocks:
    magnitudes = 2 * nibbles(u8(blocks, 6, 8)).reshape(*blocks.shape[:2], 16) + 1
    scales = magnitudes * (1 - 2 * bits(u16(blocks, 4)[:, :, 0], 16))
    codes = two_bit_plane(u8(blocks, 14, 64)) | bit_plane(u8(blocks, 78, 32)) << 2
    return _iqk(blocks, scales, codes, "kTable3", 8)


def _iq4_k(blocks: np.ndarray, header: np.ndarray) -> Blocks:
    low = nibbles(u8(blocks, 8, 8)).reshape(*blocks.shape[:2], 16)
    high = (u8(blocks, 4, 4)[..., None] >> (2 * np.arange(4)) & 3).reshape(*blocks.shape[:2], 16)
    return _iqk(blocks, (low | high << 4) - 32, nibbles_by(u8(blocks, 16, 128), 16), "kTable4", 16)


def _iq4_ks(blocks: np.ndarray, header: np.ndarray) -> Blocks:
    s = u8(blocks, 0, 8)
    codes = nibbles_by(u8(blocks, 8, 128), 16)
    q = in_blocks(table("kTable4")[codes + 16 * np.repeat(s & 1, 32, axis=2)])
    return Blocks(q, both((s & 254) - 127), row_d=row_f32(header))


DECODERS: dict[str, Decoder] = {
    "IQ2_K": _iq2_k,
    "IQ3_K": _iq3_k,
    "IQ4_K": _iq4_k,
    "IQ4_KS": _iq4_ks,
}
