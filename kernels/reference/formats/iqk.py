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
    row_f16,
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


def _six_bit_scales(blocks: np.ndarray) -> np.ndarray:
    low = nibbles(u8(blocks, 8, 8)).reshape(*blocks.shape[:2], 16)
    high = (u8(blocks, 4, 4)[..., None] >> (2 * np.arange(4)) & 3).reshape(*blocks.shape[:2], 16)
    return (low | high << 4) - 32


def _iq4_k(blocks: np.ndarray, header: np.ndarray) -> Blocks:
    return _iqk(blocks, _six_bit_scales(blocks), nibbles_by(u8(blocks, 16, 128), 16), "kTable4", 16)


def _iq5_k(blocks: np.ndarray, header: np.ndarray) -> Blocks:
    codes = nibbles_by(u8(blocks, 16, 128), 32) | bit_plane(u8(blocks, 144, 32)) << 4
    return _iqk(blocks, _six_bit_scales(blocks), codes, "kTable5", 32)


def iq6_k_codes(blocks: np.ndarray) -> np.ndarray:
    """[n_out, n_super, 256], 0..63"""
    return nibbles_by(u8(blocks, 20, 128), 32) | two_bit_plane(u8(blocks, 148, 64)) << 4


def _iq6_k(blocks: np.ndarray, header: np.ndarray) -> Blocks:
    scales = blocks[:, :, 4:20].astype(np.int8).astype(np.int32)
    return _iqk(blocks, scales, iq6_k_codes(blocks), "kTable6", 64)


def _row_scaled(
    codes: np.ndarray, scales: np.ndarray, extra: np.ndarray, values: str, n_codes: int, row_d: np.ndarray
) -> Blocks:
    """scales and extra: one for each 32-block, [n_out, n_super, 8]."""
    q = in_blocks(table(values)[codes + n_codes * np.repeat(extra, 32, axis=2)])
    return Blocks(q, both(scales), row_d=row_d)


def _scale_nibbles(blocks: np.ndarray, at: int) -> np.ndarray:
    """Four bytes: low nibbles are 32-blocks 0..3, high nibbles 4..7."""
    values = u8(blocks, at, 4)
    return np.concatenate([values & 15, values >> 4], axis=2)


def _iq2_ks(blocks: np.ndarray, header: np.ndarray) -> Blocks:
    extra = bits(u16(blocks, 0)[:, :, 0], 16)
    scales = (nibbles(u8(blocks, 2, 4)).reshape(*blocks.shape[:2], 8) | extra[:, :, 8:] << 4) - 16
    codes = two_bit_plane(u8(blocks, 6, 64))
    return _row_scaled(codes, scales, extra[:, :, :8], "kTable2", 4, row_f16(header))


def _iq2_kl(blocks: np.ndarray, header: np.ndarray) -> Blocks:
    high = u16(blocks, 0)[:, :, 0, None] >> (2 * np.arange(8)) & 3
    scales = (_scale_nibbles(blocks, 2) | high << 4) - 32
    low = nibbles_by(u8(blocks, 6, 64), 16).reshape(*blocks.shape[:2], 8, 16)
    fifth = u8(blocks, 70, 16)[:, :, None, :] >> np.arange(8)[:, None] & 1
    codes = low | fifth << 4  # of 16 pairs in each of 8 32-blocks
    weights = np.stack([table("kTableKL")[codes], table("kTableKL")[32 + codes]], axis=-1)
    return Blocks(in_blocks(weights), both(scales), row_d=row_f16(header))


def _iq3_ks(blocks: np.ndarray, header: np.ndarray) -> Blocks:
    extra = bits(u16(blocks, 0)[:, :, 0], 16)
    scales = (_scale_nibbles(blocks, 2) | extra[:, :, :8] << 4) - 16
    codes = two_bit_plane(u8(blocks, 6, 64)) | bit_plane(u8(blocks, 70, 32)) << 2
    return _row_scaled(codes, scales, extra[:, :, 8:], "kTable3", 8, row_f16(header))


def _ks(codes: np.ndarray, s: np.ndarray, values: str, n_codes: int, header: np.ndarray) -> Blocks:
    """s: bytes of scale (bits 1..7) and table half (bit 0)."""
    return _row_scaled(codes, (s & 254) - 127, s & 1, values, n_codes, row_f32(header))


def _iq4_ks(blocks: np.ndarray, header: np.ndarray) -> Blocks:
    return _ks(nibbles_by(u8(blocks, 8, 128), 16), u8(blocks, 0, 8), "kTable4", 16, header)


def _iq4_kss(blocks: np.ndarray, header: np.ndarray) -> Blocks:
    words = u16(blocks, 0, 64)
    s = ((words & 1).reshape(*blocks.shape[:2], 8, 8) << np.arange(8)).sum(axis=3)
    words = words & 0xFFFE
    words ^= words >> 1
    codes = np.stack([words & 255, words >> 8], axis=-1).reshape(*blocks.shape[:2], 128)
    return _ks(nibbles_by(codes, 16), s, "kTable4", 16, header)


def _iq5_ks(blocks: np.ndarray, header: np.ndarray) -> Blocks:
    codes = nibbles_by(u8(blocks, 8, 128), 32) | bit_plane(u8(blocks, 136, 32)) << 4
    return _ks(codes, u8(blocks, 0, 8), "kTable5", 32, header)


def _q8_kv(blocks: np.ndarray, header: np.ndarray) -> Blocks:
    ones = np.ones((*blocks.shape[:2], 2), np.int32)
    return Blocks(blocks.astype(np.int8).astype(np.int32), ones, row_d=row_f32(header))


DECODERS: dict[str, Decoder] = {
    "IQ2_K": _iq2_k,
    "IQ3_K": _iq3_k,
    "IQ4_K": _iq4_k,
    "IQ4_KS": _iq4_ks,
    "IQ5_K": _iq5_k,
    "IQ6_K": _iq6_k,
    "IQ2_KS": _iq2_ks,
    "IQ2_KL": _iq2_kl,
    "IQ3_KS": _iq3_ks,
    "IQ4_KSS": _iq4_kss,
    "IQ5_KS": _iq5_ks,
    "Q8_KV": _q8_kv,
}
