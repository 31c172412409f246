"""The IQ types: an index for several weights into a grid, or codes into a table (kernels/common/iq_blocks.h).

The half-integer scales of IQ2 and IQ3_XXS are doubled into integers and the halves go to d; IQ1 weights are counted
in eighths. All of it is exact.
"""

import numpy as np

from kernels.reference.formats.blocks import Blocks, Decoder
from kernels.reference.formats.fields import (
    bits,
    both,
    f16,
    in_blocks,
    low_nibbles,
    nibbles,
    nibbles_by,
    ones,
    pairs,
    per_block,
    row_f16,
    u8,
    u16,
    u32,
)
from kernels.reference.tables import table


def _signs(codes: np.ndarray) -> np.ndarray:
    """+-1 from bytes of eight sign bits: [n_out, n_super, 32] -> [n_out, n_super, 256]"""
    return 1 - 2 * bits(codes, 8).reshape(*codes.shape[:2], 256)


def _even(codes: np.ndarray) -> np.ndarray:
    """Seven sign bits and the eighth that makes their number even."""
    return codes | (bits(codes, 7).sum(axis=-1) & 1) << 7


def _xxs_fields(words: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scales and signs of IQ2_XXS and IQ3_XXS from 32 bits for each 32-block."""
    codes = words[..., None] >> (7 * np.arange(4)) & 127
    return both(1 + 2 * (words >> 28).astype(np.int32)), _signs(_even(codes.reshape(*words.shape[:2], 32)))


def _odd_scales(values: np.ndarray) -> np.ndarray:
    """Two scale codes a byte -> 1 + 2 * code."""
    return 1 + 2 * nibbles(values).reshape(*values.shape[:2], -1)


def _iq2_magnitudes(grid: str, index: np.ndarray) -> np.ndarray:
    codes = table(grid)[index][..., None] >> (2 * np.arange(8)) & 3
    return table("kMagnitudesIQ2")[codes].reshape(*index.shape[:2], 256)


def _iq3_magnitudes(name: str, index: np.ndarray) -> np.ndarray:
    codes = table(f"kGrid{name}")[index][..., None] >> (4 * np.arange(4)) & 15
    return table(f"kMagnitudes{name}")[codes].reshape(*index.shape[:2], 256)


def _d(blocks: np.ndarray, step: float) -> np.ndarray:
    with np.errstate(invalid="ignore"):  # a signalling NaN in a hostile file: what looks for it comes later
        return per_block(f16(blocks, 0) * np.float32(step))


def _iq2_xxs(blocks: np.ndarray, header: np.ndarray) -> Blocks:
    parts = u8(blocks, 2, 64).reshape(*blocks.shape[:2], 8, 8)
    magnitudes = _iq2_magnitudes("kGridIQ2XXS", parts[..., :4].reshape(*blocks.shape[:2], 32))
    scales, signs = _xxs_fields(u32(blocks, 2, 16)[:, :, 1::2])
    return Blocks(in_blocks(magnitudes * signs), scales, d=_d(blocks, 1 / 8))


def _iq2_xs(blocks: np.ndarray, header: np.ndarray) -> Blocks:
    fields = u16(blocks, 2, 32)
    q = _iq2_magnitudes("kGridIQ2XS", fields & 511) * _signs(_even(fields >> 9))
    return Blocks(in_blocks(q), pairs(_odd_scales(u8(blocks, 66, 8))), d=_d(blocks, 1 / 8))


def _iq2_s(blocks: np.ndarray, header: np.ndarray) -> Blocks:
    high = u8(blocks, 66, 8)[..., None] >> (2 * np.arange(4)) & 3
    index = u8(blocks, 2, 32) | high.reshape(*blocks.shape[:2], 32) << 8
    q = _iq2_magnitudes("kGridIQ2S", index) * _signs(u8(blocks, 34, 32))
    return Blocks(in_blocks(q), pairs(_odd_scales(u8(blocks, 74, 8))), d=_d(blocks, 1 / 8))


def _iq3_xxs(blocks: np.ndarray, header: np.ndarray) -> Blocks:
    scales, signs = _xxs_fields(u32(blocks, 66, 8))
    q = _iq3_magnitudes("IQ3XXS", u8(blocks, 2, 64)) * signs
    return Blocks(in_blocks(q), scales, d=_d(blocks, 1 / 4))


def _iq3_s(blocks: np.ndarray, header: np.ndarray) -> Blocks:
    index = u8(blocks, 2, 64) | bits(u8(blocks, 66, 8), 8).reshape(*blocks.shape[:2], 64) << 8
    q = _iq3_magnitudes("IQ3S", index) * _signs(u8(blocks, 74, 32))
    return Blocks(in_blocks(q), both(_odd_scales(u8(blocks, 106, 4))), d=_d(blocks, 1))


def _iq1_values(index: np.ndarray, minus_delta: np.ndarray) -> np.ndarray:
    """Eighths of the grid's values moved by +-1/8. index, minus_delta [n_out, n_file_blocks, groups of 8 weights]"""
    codes = table("kGridIQ1")[index][..., None] >> (2 * np.arange(8)) & 3
    return in_blocks((8 * (codes - 1) + 1 - 2 * minus_delta[..., None]).reshape(len(index), -1))


def _iq1_s(blocks: np.ndarray, header: np.ndarray) -> Blocks:
    words = u16(blocks, 34, 8)
    high = (words[..., None] >> (3 * np.arange(4)) & 7).reshape(*blocks.shape[:2], 32)
    q = _iq1_values(u8(blocks, 2, 32) | high << 8, np.repeat(words >> 15, 4, axis=2))
    return Blocks(q, both(1 + 2 * (words >> 12 & 7)), d=_d(blocks, 1 / 8))


def _iq1_m(blocks: np.ndarray, header: np.ndarray) -> Blocks:
    fields = nibbles(u8(blocks, 32, 16)).reshape(*blocks.shape[:2], 32)
    q = _iq1_values(u8(blocks, 0, 32) | (fields & 7) << 8, fields >> 3)
    words = u16(blocks, 48, 4)
    scales = 1 + 2 * (words[..., None] >> (3 * np.arange(4)) & 7).reshape(*blocks.shape[:2], 16)
    d_bits = ((words >> 12) << (4 * np.arange(4))).sum(axis=2).astype(np.uint16)
    return Blocks(q, pairs(scales), d=per_block(d_bits.view(np.float16).astype(np.float32) / np.float32(8)))


def _iq1_s_32(blocks: np.ndarray, header: np.ndarray) -> Blocks:
    words = u16(blocks, 4)
    index = u8(blocks, 0, 4) | (words >> (3 * np.arange(4)) & 7) << 8
    q = _iq1_values(index, np.repeat(words >> 15, 4, axis=2))
    return Blocks(q, both(1 + 2 * (words >> 12 & 7)), row_d=_row_eighths(header))


def _iq1_m_32(blocks: np.ndarray, header: np.ndarray) -> Blocks:
    fields = nibbles(u8(blocks, 4, 2)).reshape(*blocks.shape[:2], 4)
    q = _iq1_values(u8(blocks, 0, 4) | (fields & 7) << 8, fields >> 3)
    d = np.ones(blocks.shape[:2], np.float32)
    return Blocks(q, pairs(nibbles(u8(blocks, 6, 1))), d=d, row_d=_row_eighths(header))


def _row_eighths(header: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return row_f16(header) / np.float32(8)


def _iq4_nl(blocks: np.ndarray, header: np.ndarray) -> Blocks:
    return Blocks(table("kTable4")[low_nibbles(u8(blocks, 2, 16))], ones(blocks), d=f16(blocks, 0))


def _iq4_xs(blocks: np.ndarray, header: np.ndarray) -> Blocks:
    low = nibbles(u8(blocks, 4, 4)).reshape(*blocks.shape[:2], 8)
    scales = (low | (u16(blocks, 2) >> (2 * np.arange(8)) & 3) << 4) - 32
    q = table("kTable4")[nibbles_by(u8(blocks, 8, 128), 16)]
    return Blocks(in_blocks(q), both(scales), d=_d(blocks, 1))


DECODERS: dict[str, Decoder] = {
    "IQ2_XXS": _iq2_xxs,
    "IQ2_XS": _iq2_xs,
    "IQ2_S": _iq2_s,
    "IQ3_XXS": _iq3_xxs,
    "IQ3_S": _iq3_s,
    "IQ1_S": _iq1_s,
    "IQ1_M": _iq1_m,
    "IQ1_S_32": _iq1_s_32,
    "IQ1_M_32": _iq1_m_32,
    "IQ4_NL": _iq4_nl,
    "IQ4_XS": _iq4_xs,
}
