"""The K types: 256 weights under float16 factors (kernels/common/k_blocks.h)."""

import numpy as np

from kernels.reference.formats.blocks import Blocks, Decoder
from kernels.reference.formats.fields import (
    bit_plane,
    both,
    f16,
    in_blocks,
    nibbles,
    nibbles_by,
    pairs,
    per_block,
    two_bit_plane,
    u8,
)


def _k_scales(blocks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The eight six-bit scales and minimums of Q4_K and Q5_K."""
    f = u8(blocks, 4, 12)
    first, second, third = f[:, :, :4], f[:, :, 4:8], f[:, :, 8:]
    scales = np.concatenate([first & 63, third & 15 | (first >> 6) << 4], axis=2)
    mins = np.concatenate([second & 63, third >> 4 | (second >> 6) << 4], axis=2)
    return scales, mins


def _with_min(blocks: np.ndarray, codes: np.ndarray) -> Blocks:
    scales, mins = _k_scales(blocks)
    return Blocks(
        in_blocks(codes),
        both(scales),
        d=per_block(f16(blocks, 0)),
        min=both(mins),
        dmin=per_block(f16(blocks, 2)),
    )


def _q2_k(blocks: np.ndarray, header: np.ndarray) -> Blocks:
    fields = nibbles(u8(blocks, 0, 16))  # [n_out, n_super, 16, 2]  scale, minimum
    return Blocks(
        in_blocks(two_bit_plane(u8(blocks, 16, 64))),
        pairs(fields[..., 0]),
        d=per_block(f16(blocks, 80)),
        min=pairs(fields[..., 1]),
        dmin=per_block(f16(blocks, 82)),
    )


def _q3_k(blocks: np.ndarray, header: np.ndarray) -> Blocks:
    low, high = u8(blocks, 96, 8), u8(blocks, 104, 4)
    upper = [high >> shift & 3 for shift in (0, 2, 4, 6)]
    scales = np.concatenate([low & 15, low >> 4], axis=2) | np.concatenate(upper, axis=2) << 4
    codes = two_bit_plane(u8(blocks, 32, 64)) | bit_plane(u8(blocks, 0, 32)) << 2
    return Blocks(in_blocks(codes - 4), pairs(scales - 32), d=per_block(f16(blocks, 108)))


def _q4_k(blocks: np.ndarray, header: np.ndarray) -> Blocks:
    return _with_min(blocks, nibbles_by(u8(blocks, 16, 128), 32))


def _q5_k(blocks: np.ndarray, header: np.ndarray) -> Blocks:
    return _with_min(blocks, nibbles_by(u8(blocks, 48, 128), 32) | bit_plane(u8(blocks, 16, 32)) << 4)


def _q6_k(blocks: np.ndarray, header: np.ndarray) -> Blocks:
    low = nibbles_by(u8(blocks, 0, 128), 64)
    q = (low | two_bit_plane(u8(blocks, 128, 64)) << 4) - 32
    scales = blocks[:, :, 192:208].astype(np.int8).astype(np.int32)
    return Blocks(in_blocks(q), pairs(scales), d=per_block(f16(blocks, 208)))


DECODERS: dict[str, Decoder] = {
    "Q2_K": _q2_k,
    "Q3_K": _q3_k,
    "Q4_K": _q4_k,
    "Q5_K": _q5_k,
    "Q6_K": _q6_k,
}
