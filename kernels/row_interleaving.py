"""Types that only files have, four rows interleaved (`llama-quantize --repack`), laid out as the plain type's rows.

A unit is four rows: their row headers, if the plain type has one, then per block of columns (256; in the 1-bit types
32) one block of four times the plain size. Every bit of it is a bit of the plain rows, so nothing below the loader
knows these types.

Positions: row k = 0..3, 32-block b = 0..7, half hf of 16 weights, byte i = 0..3; s = 0..3 counts two-bit fields.
"""

from collections.abc import Callable

import numpy as np

from kernels.quant_tensor import ROWS_INTERLEAVED, QuantType

_BYTES_AT_A_TIME = 1 << 18  # the temporaries stay in the cache


def plain_rows(plain: QuantType, n_in: int, data: np.ndarray) -> np.ndarray:
    """File bytes, uint8, of a matrix of the plain type whose rows, n_in weights each, data interleaves."""
    n_row_bytes = plain.row_bytes(n_in)
    units = data.reshape(-1, ROWS_INTERLEAVED * n_row_bytes)
    out = np.empty((len(units), ROWS_INTERLEAVED, n_row_bytes), np.uint8)
    n_at_a_time = max(1, _BYTES_AT_A_TIME // units.shape[1])
    for first in range(0, len(units), n_at_a_time):
        some = slice(first, first + n_at_a_time)
        _lay_out(plain, units[some], out[some])
    return out.reshape(-1)


def _lay_out(plain: QuantType, units: np.ndarray, rows: np.ndarray) -> None:
    """units [n_units, 4 * row_bytes] -> rows [n_units, 4, row_bytes]"""
    n_units, n_header = len(units), plain.row_header_bytes
    headers, blocks = np.split(units, [4 * n_header], axis=1)
    rows[:, :, :n_header] = headers.reshape(n_units, 4, n_header)
    # Blocks last: each step below is then one over long runs.
    by_byte = np.ascontiguousarray(blocks.reshape(-1, 4 * plain.block_bytes).T)
    plain_blocks = np.concatenate(_UNPACK[plain.name](by_byte), axis=1).reshape(
        4, plain.block_bytes, n_units, -1
    )
    rows[:, :, n_header:] = plain_blocks.transpose(2, 0, 3, 1).reshape(n_units, 4, -1)


# Fields of a block. x uint8 [4 * block_bytes, n_blocks]; results are the plain rows' bytes, [4, n_bytes, n_blocks].


def _halves(x: np.ndarray, at: int) -> np.ndarray:
    """Two bytes a row: a float16, or a word."""
    return x[at : at + 8].reshape(4, 2, -1)


def _sub_block_bits(x: np.ndarray, at: int) -> np.ndarray:
    """Byte 4hf + k, bit b -> the plain u16, whose bit 2b + hf is of sub-block 2b + hf."""
    bits = _fields(x[at : at + 8], 1).reshape(8, 2, 4, -1)  # [b, hf, k]
    return _pack(bits.transpose(2, 0, 1, 3).reshape(4, 2, 8, -1), 1)


def _scale_nibbles(x: np.ndarray, at: int) -> np.ndarray:
    """Nibble u / 32 of byte u mod 32 is of scale u = 8b + 4hf + k -> the plain bytes, even sub-blocks low."""
    scales = _fields(x[at : at + 32], 4).reshape(16, 4, -1)  # [2b + hf, k]
    return _pack(scales.swapaxes(0, 1).reshape(4, 8, 2, -1), 4)


def _scale_tops(x: np.ndarray, at: int) -> np.ndarray:
    """Bits 2(u / 16) of byte u mod 16 are of scale u -> the plain bytes, four sub-blocks a byte."""
    scales = _fields(x[at : at + 16], 2).reshape(16, 4, -1)
    return _pack(scales.swapaxes(0, 1).reshape(4, 4, 4, -1), 2)


def _fields(x: np.ndarray, width: int) -> np.ndarray:
    """[n, n_blocks] -> [8 / width, n, n_blocks], the lowest bits first"""
    shifts = np.arange(0, 8, width, dtype=np.uint8)[:, None, None]
    return x >> shifts & (1 << width) - 1


def _pack(fields: np.ndarray, width: int) -> np.ndarray:
    """[..., n_fields, n_blocks] -> [..., n_blocks], the first one lowest"""
    return np.bitwise_or.reduce(fields << np.arange(0, 8, width, dtype=np.uint8)[:, None], axis=-2)


# Codes of a block: [4, 256, n_blocks].


def _codes2(x: np.ndarray, at: int) -> np.ndarray:
    """Byte 32b + 16hf + 4k + i, bits 2s -> weight 16hf + 4s + i of 32-block b."""
    codes = _fields(x[at : at + 256], 2).reshape(4, 8, 2, 4, 4, -1)  # [s, b, hf, k, i]
    return codes.transpose(3, 1, 2, 0, 4, 5).reshape(4, 256, -1)


#: First weight that group g's low nibbles hold; the high ones are eight on.
_FIRST_OF_GROUP = (0, 16, 4, 20)


def _codes4(x: np.ndarray, at: int) -> np.ndarray:
    """Byte 64b + 16g + 4k + i -> weight first[g] + i of 32-block b (low nibble) and first[g] + 8 + i (high)."""
    low, high = _fields(x[at : at + 512], 4).reshape(2, 8, 4, 4, 4, -1).swapaxes(1, 3)  # [k, g, b, i]
    codes = np.empty((4, 8, 32, x.shape[1]), np.uint8)
    for g, first in enumerate(_FIRST_OF_GROUP):
        codes[:, :, first : first + 4] = low[:, g]
        codes[:, :, first + 8 : first + 12] = high[:, g]
    return codes.reshape(4, 256, -1)


_IQ3_HIGH_BITS = (0, 4, 8, 12, 16, 20, 24, 28)
_IQ5_HIGH_BITS = (0, 8, 16, 24, 4, 12, 20, 28)


def _high_bits(x: np.ndarray, at: int, first_weights: tuple[int, ...]) -> np.ndarray:
    """Byte 16b + 4k + i, bit n -> weight first_weights[n] + i of 32-block b."""
    bits = _fields(x[at : at + 128], 1).reshape(8, 8, 4, 4, -1).swapaxes(1, 2)  # [n, k, b, i]
    codes = np.empty((4, 8, 32, x.shape[1]), np.uint8)
    for first, bit in zip(first_weights, bits, strict=True):
        codes[:, :, first : first + 4] = bit
    return codes.reshape(4, 256, -1)


# Planes of a plain block: codes -> [4, n_bytes, n_blocks].


def _plane(codes: np.ndarray, width: int, run: int) -> np.ndarray:
    """A byte holds the codes of weights that lie run apart, the first one lowest."""
    fields = codes.reshape(4, -1, 8 // width, run, codes.shape[2])
    return _pack(fields.swapaxes(2, 3), width).reshape(4, -1, codes.shape[2])


# Types: blocks -> the plain block's parts, in order.


def _iq2_k(x: np.ndarray) -> tuple[np.ndarray, ...]:
    return _halves(x, 0), _sub_block_bits(x, 8), _scale_nibbles(x, 16), _plane(_codes2(x, 48), 2, 32)


def _iq3_k(x: np.ndarray) -> tuple[np.ndarray, ...]:
    heads = (_halves(x, 0), _sub_block_bits(x, 8), _sub_block_bits(x, 16), _scale_nibbles(x, 24))
    return *heads, _plane(_codes2(x, 56), 2, 32), _plane(_high_bits(x, 312, _IQ3_HIGH_BITS), 1, 32)


def _k_heads(x: np.ndarray) -> tuple[np.ndarray, ...]:
    """What IQ4_K and IQ5_K begin with, 64 bytes of four rows."""
    return _halves(x, 0), _sub_block_bits(x, 8), _scale_tops(x, 16), _scale_nibbles(x, 32)


def _iq4_k(x: np.ndarray) -> tuple[np.ndarray, ...]:
    return *_k_heads(x), _plane(_codes4(x, 64), 4, 16)


def _iq5_planes(x: np.ndarray, at: int) -> tuple[np.ndarray, ...]:
    return _plane(_codes4(x, at), 4, 32), _plane(_high_bits(x, at + 512, _IQ5_HIGH_BITS), 1, 32)


def _iq5_k(x: np.ndarray) -> tuple[np.ndarray, ...]:
    return *_k_heads(x), *_iq5_planes(x, 64)


def _ks_scales(x: np.ndarray) -> np.ndarray:
    """Byte 4b + k"""
    return x[:32].reshape(8, 4, -1).swapaxes(0, 1)


def _iq4_ks(x: np.ndarray) -> tuple[np.ndarray, ...]:
    return _ks_scales(x), _plane(_codes4(x, 32), 4, 16)


def _iq5_ks(x: np.ndarray) -> tuple[np.ndarray, ...]:
    return _ks_scales(x), *_iq5_planes(x, 32)


def _low_indices(x: np.ndarray) -> np.ndarray:
    """Byte 4g + k is of group g."""
    return x[:16].reshape(4, 4, -1).swapaxes(0, 1)


def _iq1_s(x: np.ndarray) -> tuple[np.ndarray, ...]:
    """The words of the four rows follow the indices."""
    return _low_indices(x), _halves(x, 16)


def _iq1_m(x: np.ndarray) -> tuple[np.ndarray, ...]:
    """Byte 4i + k holds the nibbles of groups 2i and 2i + 1; then a byte of scales a row."""
    return _low_indices(x), x[16:24].reshape(2, 4, -1).swapaxes(0, 1), x[24:28].reshape(4, 1, -1)


_UNPACK: dict[str, Callable[[np.ndarray], tuple[np.ndarray, ...]]] = {
    "IQ1_S_32": _iq1_s,
    "IQ1_M_32": _iq1_m,
    "IQ2_K": _iq2_k,
    "IQ3_K": _iq3_k,
    "IQ4_K": _iq4_k,
    "IQ5_K": _iq5_k,
    "IQ4_KS": _iq4_ks,
    "IQ5_KS": _iq5_ks,
}
