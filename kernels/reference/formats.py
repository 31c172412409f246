"""Every tensor type in NumPy: file bytes to integers, and integers to the weights they stand for.

Written from the layout descriptions (docs/kt_format.md, kernels/common), one function a type, independent of the
compiled headers but for the tables; the two are compared bit for bit.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from kernels.quant_tensor import TYPES
from kernels.reference.tables import number, table

DENSE = ("F32", "F16", "BF16")


@dataclass
class Blocks:
    """A matrix as integers, in blocks of 32 weights.

    A weight is factor * scale * q * step, where factor is the block's d, or the row's for types with a row
    header; some types subtract dmin * min or add the row's mean.
    """

    q: np.ndarray  # int32 [n_out, n_blocks, 32]
    scale: np.ndarray  # int32 [n_out, n_blocks, 2]  of weights 0..15 and 16..31
    d: np.ndarray | None = None  # float32 [n_out, n_blocks]; None: a row-scaled type
    row_d: np.ndarray | None = None  # float32 [n_out]
    mean: np.ndarray | None = None  # float32 [n_out]
    min: np.ndarray | None = None  # int32 [n_out, n_blocks]
    dmin: np.ndarray | None = None  # float32 [n_out, n_blocks]
    minus_zero: np.ndarray | None = None  # bool like q: a stored sign on a magnitude of zero
    gain: float = 1.0  # of linears
    step: float = 1.0  # the unit of q


def decode(type_name: str, data: np.ndarray, n_out: int, n_in: int) -> Blocks:
    """The integers of a quantized matrix. data uint8 [n_out * row_bytes]."""
    quant_type = TYPES[type_name]
    rows = data.reshape(n_out, quant_type.row_bytes(n_in))
    header = np.ascontiguousarray(rows[:, : quant_type.row_header_bytes]).view("<f4")  # [n_out, 0 .. 2]
    blocks = rows[:, quant_type.row_header_bytes :].reshape(n_out, -1, quant_type.block_bytes)
    return _DECODERS[type_name](blocks, header)


def dequantize(type_name: str, data: np.ndarray, n_out: int, n_in: int) -> np.ndarray:
    """The plain weights (no inference gain), float32 [n_out, n_in], each product rounded in order."""
    if type_name in DENSE:
        return _dense(type_name, data).reshape(n_out, n_in)
    w = decode(type_name, data, n_out, n_in)
    factor = w.d[:, :, None] if w.d is not None else _rows(w.row_d)
    scaled = np.repeat(factor * w.scale.astype(np.float32), 16, axis=2)  # [n_out, n_blocks, 32]
    values = w.q.astype(np.float32) * np.float32(w.step)
    if w.minus_zero is not None:
        values = np.where(w.minus_zero, np.float32(-0.0), values)
    if w.mean is not None:
        out = fma32(scaled, values, _rows(w.mean))
    elif w.min is not None and w.dmin is not None:
        out = scaled * values - (w.dmin * w.min.astype(np.float32))[:, :, None]
    else:
        out = scaled * values
    return out.reshape(n_out, n_in)


def fma32(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """a * b + c of float32 arrays, rounded once.

    The product of two floats is exact in double. The sum is rounded to odd in double (its error, by TwoSum, says
    whether the last bit stands for more), and an odd double rounds to the float that the exact sum would.
    """
    product = a.astype(np.float64) * b.astype(np.float64)
    addend = np.broadcast_to(c.astype(np.float64), product.shape)
    total = product + addend
    back = total - product
    error = (product - (total - back)) + (addend - back)
    bits = total.view(np.int64)
    toward_error = np.where((error > 0) == (total > 0), 1, -1)
    inexact = np.isfinite(total) & (error != 0) & (bits & 1 == 0)
    return np.where(inexact, bits + toward_error, bits).view(np.float64).astype(np.float32)


def _rows(values: np.ndarray | None) -> np.ndarray:
    assert values is not None
    return values[:, None, None]


def _dense(type_name: str, data: np.ndarray) -> np.ndarray:
    if type_name == "BF16":
        return (data.view("<u2").astype(np.uint32) << 16).view(np.float32)
    return data.view("<f4" if type_name == "F32" else "<f2").astype(np.float32)


# Fields. Blocks are uint8 [n_out, n_file_blocks, block_bytes].


def _f16(blocks: np.ndarray, at: int) -> np.ndarray:
    return np.ascontiguousarray(blocks[:, :, at : at + 2]).view("<f2")[:, :, 0].astype(np.float32)


def _u16(blocks: np.ndarray, at: int, n: int = 1) -> np.ndarray:
    return np.ascontiguousarray(blocks[:, :, at : at + 2 * n]).view("<u2").astype(np.int32)


def _u32(blocks: np.ndarray, at: int, n: int) -> np.ndarray:
    return np.ascontiguousarray(blocks[:, :, at : at + 4 * n]).view("<u4").astype(np.int64)


def _bytes(blocks: np.ndarray, at: int, n: int) -> np.ndarray:
    return blocks[:, :, at : at + n].astype(np.int32)


def _bits(values: np.ndarray, n: int) -> np.ndarray:
    """Bit i of each value, i = 0 .. n - 1, on a new last axis."""
    return values[..., None] >> np.arange(n) & 1


def _nibbles(values: np.ndarray) -> np.ndarray:
    """Low, then high nibble, on a new last axis."""
    return np.stack([values & 15, values >> 4], axis=-1)


def _two_bit_plane(values: np.ndarray) -> np.ndarray:
    """64 bytes -> 256 codes: byte 32h + j, bits 2s, 2s + 1 is weight 128h + 32s + j."""
    halves = values.reshape(*values.shape[:2], 2, 1, 32)
    return (halves >> (2 * np.arange(4))[:, None] & 3).reshape(*values.shape[:2], 256)


def _bit_plane(values: np.ndarray) -> np.ndarray:
    """32 bytes -> 256 bits: bit b of byte j is weight 32b + j."""
    return (values[:, :, None, :] >> np.arange(8)[:, None] & 1).reshape(*values.shape[:2], 256)


def _nibbles_by(values: np.ndarray, width: int) -> np.ndarray:
    """128 bytes -> 256 codes: of 2 * width weights, width bytes; low nibbles are the first half."""
    parts = values.reshape(*values.shape[:2], -1, 1, width)
    return (parts >> (4 * np.arange(2))[:, None] & 15).reshape(*values.shape[:2], 256)


def _in_blocks(values: np.ndarray) -> np.ndarray:
    """[n_out, n_super, 256] -> [n_out, n_blocks, 32]"""
    return values.reshape(values.shape[0], -1, 32)


def _per_block(values: np.ndarray, n: int = 8) -> np.ndarray:
    """A super-block's value, repeated for its 32-blocks: [n_out, n_super] -> [n_out, n_blocks]"""
    return np.repeat(values, n, axis=1)


def _pairs(scales: np.ndarray) -> np.ndarray:
    """16 scales a super-block -> [n_out, n_blocks, 2]"""
    return scales.reshape(scales.shape[0], -1, 2)


def _both(scales: np.ndarray) -> np.ndarray:
    """8 scales a super-block, each for both halves -> [n_out, n_blocks, 2]"""
    return np.repeat(scales.reshape(scales.shape[0], -1, 1), 2, axis=2)


# Trellis types.


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
    return _in_blocks((three_inst if v1 else integer_trellis)(start, n).reshape(*start.shape[:2], 256))


def _kt(q: np.ndarray, scale: np.ndarray, header: np.ndarray, v1: bool, gain: float) -> Blocks:
    row_d = header[:, 0].copy()
    if not v1:
        return Blocks(q, _both(scale), row_d=row_d, gain=gain)
    mean = header[:, 1].copy() if header.shape[1] == 2 else None
    row_d = row_d * np.float32(number("kThreeInstScale"))
    return Blocks(q, _both(scale), row_d=row_d, mean=mean, gain=gain, step=number("kThreeInstStep"))


def _kt_scale_codes(blocks: np.ndarray) -> np.ndarray:
    return np.moveaxis(_nibbles(_bytes(blocks, 0, 4)), -1, -2).reshape(*blocks.shape[:2], 8)


def _iq1_kt(blocks: np.ndarray, header: np.ndarray) -> Blocks:
    sh, low, middle = _bytes(blocks, 0, 8), _bytes(blocks, 8, 32), _bytes(blocks, 40, 16)
    high = np.concatenate([middle & 15, middle >> 4], axis=2)
    top = _bits(sh >> 4, 4).reshape(*blocks.shape[:2], 32)
    start = (low | high << 8 | top << 12) + int(number("kTrellisOffset"))
    return _kt(_generate(start, 8, False), table("kTable4")[sh & 15], header, False, 1.0)


def _iq2_kt(blocks: np.ndarray, header: np.ndarray, v1: bool = False) -> Blocks:
    start = _u16(blocks, 4, 32) + int(number("kTrellisOffset"))
    gain = number("kGainIQ2KTV1" if v1 else "kGainIQ2KT")
    return _kt(_generate(start, 8, v1), table("kTable4")[_kt_scale_codes(blocks)], header, v1, gain)


def _iq3_kt(blocks: np.ndarray, header: np.ndarray, v1: bool = False) -> Blocks:
    start = _u16(blocks, 4, 32) + int(number("kTrellisOffset"))
    sign = 1 - 2 * _in_blocks(_bit_plane(_bytes(blocks, 68, 32)))
    q = sign * np.abs(_generate(start, 8, v1))
    out = _kt(q, _kt_scale_codes(blocks), header, v1, number("kGainIQ3KTV1" if v1 else "kGainIQ3KT"))
    out.minus_zero = (q == 0) & (sign < 0)
    return out


def _iq4_kt(blocks: np.ndarray, header: np.ndarray, v1: bool = False) -> Blocks:
    words, low, middle = _u32(blocks, 0, 8), _bytes(blocks, 32, 64), _bytes(blocks, 96, 32)
    high = (words[..., None] >> (8 + 3 * np.arange(8)) & 7).reshape(*blocks.shape[:2], 64)
    index = low | np.concatenate([middle & 15, middle >> 4], axis=2) << 8 | high << 12
    offset = np.where(words & 1, int(number("kTrellisOffsetHigh")), int(number("kTrellisOffset")))
    scale = ((words >> 1 & 127) - 64).astype(np.int32)
    q = _generate(index + np.repeat(offset, 8, axis=2), 4, v1)
    return _kt(q, scale, header, v1, number("kGainIQ4KTV1") if v1 else 1.0)


# Table types.


def _iqk(blocks: np.ndarray, scales: np.ndarray, codes: np.ndarray, values: str, n_codes: int) -> Blocks:
    extra = np.repeat(_bits(_u16(blocks, 2)[:, :, 0], 16), 16, axis=2)
    q = _in_blocks(table(values)[codes + n_codes * extra])
    return Blocks(q, _pairs(scales), d=_per_block(_f16(blocks, 0)))


def _iq2_k(blocks: np.ndarray, header: np.ndarray) -> Blocks:
    scales = _nibbles(_bytes(blocks, 4, 8)).reshape(*blocks.shape[:2], 16) - 8
    return _iqk(blocks, scales, _two_bit_plane(_bytes(blocks, 12, 64)), "kTable2", 4)


def _iq3_k(blocks: np.ndarray, header: np.ndarray) -> Blocks:
    magnitudes = 2 * _nibbles(_bytes(blocks, 6, 8)).reshape(*blocks.shape[:2], 16) + 1
    scales = magnitudes * (1 - 2 * _bits(_u16(blocks, 4)[:, :, 0], 16))
    codes = _two_bit_plane(_bytes(blocks, 14, 64)) | _bit_plane(_bytes(blocks, 78, 32)) << 2
    return _iqk(blocks, scales, codes, "kTable3", 8)


def _iq4_k(blocks: np.ndarray, header: np.ndarray) -> Blocks:
    low = _nibbles(_bytes(blocks, 8, 8)).reshape(*blocks.shape[:2], 16)
    high = (_bytes(blocks, 4, 4)[..., None] >> (2 * np.arange(4)) & 3).reshape(*blocks.shape[:2], 16)
    return _iqk(blocks, (low | high << 4) - 32, _nibbles_by(_bytes(blocks, 16, 128), 16), "kTable4", 16)


def _iq4_ks(blocks: np.ndarray, header: np.ndarray) -> Blocks:
    s = _bytes(blocks, 0, 8)
    codes = _nibbles_by(_bytes(blocks, 8, 128), 16)
    q = _in_blocks(table("kTable4")[codes + 16 * np.repeat(s & 1, 32, axis=2)])
    return Blocks(q, _both((s & 254) - 127), row_d=header[:, 0].copy())


# K types, IQ3_S and the 32-wide ones.


def _k_scales(blocks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The eight six-bit scales and minimums of Q4_K and Q5_K."""
    f = _bytes(blocks, 4, 12)
    first, second, third = f[:, :, :4], f[:, :, 4:8], f[:, :, 8:]
    scales = np.concatenate([first & 63, third & 15 | (first >> 6) << 4], axis=2)
    mins = np.concatenate([second & 63, third >> 4 | (second >> 6) << 4], axis=2)
    return scales, mins


def _with_min(blocks: np.ndarray, codes: np.ndarray) -> Blocks:
    scales, mins = _k_scales(blocks)
    return Blocks(
        _in_blocks(codes),
        _both(scales),
        d=_per_block(_f16(blocks, 0)),
        min=mins.reshape(mins.shape[0], -1),
        dmin=_per_block(_f16(blocks, 2)),
    )


def _q4_k(blocks: np.ndarray, header: np.ndarray) -> Blocks:
    return _with_min(blocks, _nibbles_by(_bytes(blocks, 16, 128), 32))


def _q5_k(blocks: np.ndarray, header: np.ndarray) -> Blocks:
    return _with_min(
        blocks, _nibbles_by(_bytes(blocks, 48, 128), 32) | _bit_plane(_bytes(blocks, 16, 32)) << 4
    )


def _q6_k(blocks: np.ndarray, header: np.ndarray) -> Blocks:
    low = _nibbles_by(_bytes(blocks, 0, 128), 64)
    q = (low | _two_bit_plane(_bytes(blocks, 128, 64)) << 4) - 32
    scales = blocks[:, :, 192:208].astype(np.int8).astype(np.int32)
    return Blocks(_in_blocks(q), _pairs(scales), d=_per_block(_f16(blocks, 208)))


def _iq3_s(blocks: np.ndarray, header: np.ndarray) -> Blocks:
    index = _bytes(blocks, 2, 64) | _bits(_bytes(blocks, 66, 8), 8).reshape(*blocks.shape[:2], 64) << 8
    magnitudes = 2 * (table("kGridIQ3S")[index][..., None] >> (4 * np.arange(4)) & 15) + 1
    signs = 1 - 2 * _bits(_bytes(blocks, 74, 32), 8).reshape(*blocks.shape[:2], 256)
    scales = 2 * _nibbles(_bytes(blocks, 106, 4)).reshape(*blocks.shape[:2], 8) + 1
    q = magnitudes.reshape(*blocks.shape[:2], 256) * signs
    return Blocks(_in_blocks(q), _both(scales), d=_per_block(_f16(blocks, 0)))


def _ones(blocks: np.ndarray) -> np.ndarray:
    return np.ones((*blocks.shape[:2], 2), np.int32)


def _q8_0(blocks: np.ndarray, header: np.ndarray) -> Blocks:
    return Blocks(blocks[:, :, 2:].astype(np.int8).astype(np.int32), _ones(blocks), d=_f16(blocks, 0))


def _q6_0(blocks: np.ndarray, header: np.ndarray) -> Blocks:
    pairs, low = _bytes(blocks, 2, 8), _bytes(blocks, 10, 16)
    nibbles = np.concatenate([pairs & 15, pairs >> 4], axis=2)  # of weights j and 16 + j
    q = np.concatenate([low & 15 | (nibbles & 3) << 4, low >> 4 | (nibbles >> 2) << 4], axis=2) - 32
    return Blocks(q, _ones(blocks), d=_f16(blocks, 0))


_DECODERS: dict[str, Callable[[np.ndarray, np.ndarray], Blocks]] = {
    "Q8_0": _q8_0,
    "Q6_0": _q6_0,
    "Q4_K": _q4_k,
    "Q5_K": _q5_k,
    "Q6_K": _q6_k,
    "IQ3_S": _iq3_s,
    "IQ2_K": _iq2_k,
    "IQ3_K": _iq3_k,
    "IQ4_K": _iq4_k,
    "IQ4_KS": _iq4_ks,
    "IQ1_KT": _iq1_kt,
    "IQ2_KT": _iq2_kt,
    "IQ3_KT": _iq3_kt,
    "IQ4_KT": _iq4_kt,
    "IQ2_KT_V1": lambda blocks, header: _iq2_kt(blocks, header, v1=True),
    "IQ3_KT_V1": lambda blocks, header: _iq3_kt(blocks, header, v1=True),
    "IQ4_KT_V1": lambda blocks, header: _iq4_kt(blocks, header, v1=True),
}
