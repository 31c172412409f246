"""The KT types, both generations (kernels/common/kt_blocks.h, trellis.h)."""

from collections.abc import Callable

import numpy as np

from kernels.reference.formats.blocks import Blocks, Decoder
from kernels.reference.formats.fields import bit_plane, bits, both, in_blocks, nibbles, row_f32, u8, u16, u32
from kernels.reference.tables import number, table


def integer_trellis(start: np.ndarray, n: int) -> np.ndarray:
    """n values from each start state (index + offset), on a new last axis; int32."""
    x, out = start.astype(np.uint64), []
    for _ in range(n):
        x = x * np.uint64(number("kTrellisMultiplier")) & np.uint64(0xFFFFFFFF)
        s = x & np.uint64(number("kTrellisMask"))
        total = np.sum([s >> np.uint64(8 * i) & np.uint64(255) for i in range(4)], axis=0)
        out.append(total.astype(np.int32) - int(number("kTrellisCentre")))
    return np.stack(out, axis=-1)


def three_inst(start: np.ndarray, n: int) -> np.ndarray:
    """n values times 8192 from each start state; int32. The halves are read as the float16 they are."""
    x, out = start.astype(np.uint64), []
    for _ in range(n):
        x = x * np.uint64(number("kThreeInstMultiplier")) + np.uint64(number("kThreeInstIncrement"))
        x &= np.uint64(0xFFFFFFFF)
        s = (x & np.uint64(number("kThreeInstKeep"))) ^ np.uint64(number("kThreeInstFlip"))
        halves = [(s >> np.uint64(16 * i) & np.uint64(0xFFFF)).astype(np.uint16) for i in range(2)]
        total = np.sum([half.view(np.float16).astype(np.float64) for half in halves], axis=0)
        out.append((total * 8192).astype(np.int32))
    return np.stack(out, axis=-1)


def _generate(start: np.ndarray, n: int, v1: bool) -> np.ndarray:
    return in_blocks((three_inst if v1 else integer_trellis)(start, n).reshape(*start.shape[:2], 256))


def _kt(q: np.ndarray, scale: np.ndarray, header: np.ndarray, v1: bool, gain: float) -> Blocks:
    row_d = row_f32(header)
    if not v1:
        return Blocks(q, both(scale), row_d=row_d, gain=gain)
    mean = row_f32(header, 4) if header.shape[1] == 8 else None
    row_d = row_d * np.float32(number("kThreeInstScale"))
    return Blocks(q, both(scale), row_d=row_d, mean=mean, gain=gain, step=number("kThreeInstStep"))


def _kt_scale_codes(blocks: np.ndarray) -> np.ndarray:
    return np.moveaxis(nibbles(u8(blocks, 0, 4)), -1, -2).reshape(*blocks.shape[:2], 8)


def _iq1_kt(blocks: np.ndarray, header: np.ndarray) -> Blocks:
    sh, low, middle = u8(blocks, 0, 8), u8(blocks, 8, 32), u8(blocks, 40, 16)
    high = np.concatenate([middle & 15, middle >> 4], axis=2)
    top = bits(sh >> 4, 4).reshape(*blocks.shape[:2], 32)
    start = (low | high << 8 | top << 12) + int(number("kTrellisOffset"))
    return _kt(_generate(start, 8, False), table("kTable4")[sh & 15], header, False, 1.0)


def _iq2_kt(blocks: np.ndarray, header: np.ndarray, v1: bool = False) -> Blocks:
    start = u16(blocks, 4, 32) + int(number("kTrellisOffset"))
    gain = number("kGainIQ2KTV1" if v1 else "kGainIQ2KT")
    return _kt(_generate(start, 8, v1), table("kTable4")[_kt_scale_codes(blocks)], header, v1, gain)


def _iq3_kt(blocks: np.ndarray, header: np.ndarray, v1: bool = False) -> Blocks:
    start = u16(blocks, 4, 32) + int(number("kTrellisOffset"))
    sign = 1 - 2 * in_blocks(bit_plane(u8(blocks, 68, 32)))
    q = sign * np.abs(_generate(start, 8, v1))
    out = _kt(q, _kt_scale_codes(blocks), header, v1, number("kGainIQ3KTV1" if v1 else "kGainIQ3KT"))
    out.minus_zero = (q == 0) & (sign < 0)
    return out


def _iq4_kt(blocks: np.ndarray, header: np.ndarray, v1: bool = False) -> Blocks:
    words, low, middle = u32(blocks, 0, 8), u8(blocks, 32, 64), u8(blocks, 96, 32)
    high = (words[..., None] >> (8 + 3 * np.arange(8)) & 7).reshape(*blocks.shape[:2], 64)
    index = low | np.concatenate([middle & 15, middle >> 4], axis=2) << 8 | high << 12
    offset = np.where(words & 1, int(number("kTrellisOffsetHigh")), int(number("kTrellisOffset")))
    scale = ((words >> 1 & 127) - 64).astype(np.int32)
    q = _generate(index + np.repeat(offset, 8, axis=2), 4, v1)
    return _kt(q, scale, header, v1, number("kGainIQ4KTV1") if v1 else 1.0)


def _iq3_kt_tail(tail: np.ndarray, n: int) -> np.ndarray:
    """u16 index[4n], a sign byte a group, then scale codes, two a byte, even blocks low."""
    out = np.zeros((len(tail), 100), np.uint8)
    codes = nibbles(tail[:, 12 * n : 12 * n + (n + 1) // 2]).reshape(len(tail), -1)[:, :n]
    for b in range(n):
        out[:, b % 4] |= codes[:, b] << (4 * (b // 4))
        signs = bits(tail[:, 8 * n + 4 * b : 8 * n + 4 * b + 4].astype(np.int32), 8).reshape(len(tail), 32)
        out[:, 68:] |= (signs << b).astype(np.uint8)
    out[:, 4 : 4 + 8 * n] = tail[:, : 8 * n]
    return out


def _iq4_kt_tail(tail: np.ndarray, n: int) -> np.ndarray:
    """For each 32-block its word, eight low index bytes, and four bytes of middle nibbles, even groups low."""
    out = np.zeros((len(tail), 128), np.uint8)
    for b, fields in enumerate(np.split(tail[:, : 16 * n], n, axis=1)):
        out[:, 4 * b : 4 * b + 4] = fields[:, :4]
        out[:, 32 + 8 * b : 40 + 8 * b] = fields[:, 4:12]
        middle = nibbles(fields[:, 12:16]).reshape(len(tail), 8)
        first = 96 + 8 * b % 32
        out[:, first : first + 8] |= middle << (4 * (b // 4))
    return out


#: (the bytes of the rows' tails uint8 [n_out, n_bytes], their number of 32-blocks) -> blocks of 256 weights that
#: begin with those 32-blocks, the others zeros, uint8 [n_out, block_bytes]
TAILS: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {"IQ3_KT": _iq3_kt_tail, "IQ4_KT": _iq4_kt_tail}
DECODERS: dict[str, Decoder] = {
    "IQ1_KT": _iq1_kt,
    "IQ2_KT": _iq2_kt,
    "IQ3_KT": _iq3_kt,
    "IQ4_KT": _iq4_kt,
    "IQ2_KT_V1": lambda blocks, header: _iq2_kt(blocks, header, v1=True),
    "IQ3_KT_V1": lambda blocks, header: _iq3_kt(blocks, header, v1=True),
    "IQ4_KT_V1": lambda blocks, header: _iq4_kt(blocks, header, v1=True),
}
