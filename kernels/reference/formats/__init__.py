"""Every tensor type in NumPy: file bytes to integers, and integers to the weights they stand for.

Written from the layout descriptions (docs/kt_format.md, kernels/common), one function a type and one room a
family, independent of the compiled headers except for the tables; the two are compared bit for bit.
"""

from dataclasses import replace

import numpy as np

from kernels.quant_tensor import TYPES
from kernels.reference.fma import fma32
from kernels.reference.formats import fp4, iq, iqk, k, kt, legacy, ternary
from kernels.reference.formats.blocks import Blocks, Decoder
from kernels.reference.tables import number

DENSE = ("F32", "F16", "BF16")

_DECODERS: dict[str, Decoder] = {
    **legacy.DECODERS,
    **k.DECODERS,
    **iq.DECODERS,
    **ternary.DECODERS,
    **fp4.DECODERS,
    **iqk.DECODERS,
    **kt.DECODERS,
}


def decode(type_name: str, data: np.ndarray, n_out: int, n_in: int) -> Blocks:
    """The integers of a quantized matrix. data uint8 [n_out * row_bytes]."""
    quant_type = TYPES[type_name]
    rows = data.reshape(n_out, quant_type.row_bytes(n_in))
    header, after = np.split(rows, [quant_type.row_header_bytes], axis=1)
    n_whole, n_tail_weights = divmod(n_in, quant_type.block_size)
    whole, tail = np.split(after, [n_whole * quant_type.block_bytes], axis=1)
    blocks = whole.reshape(n_out, n_whole, quant_type.block_bytes)
    if n_tail_weights:
        last = kt.TAILS[type_name](tail, n_tail_weights // 32)
        blocks = np.concatenate([blocks, last[:, None]], axis=1)
    return _first_blocks(_DECODERS[type_name](blocks, header), n_in // 32)


def _first_blocks(w: Blocks, n_blocks: int) -> Blocks:
    """Without the 32-blocks that a tail lacks of a whole block. Types with tails have no other fields a block."""
    minus_zero = None if w.minus_zero is None else w.minus_zero[:, :n_blocks]
    return replace(w, q=w.q[:, :n_blocks], scale=w.scale[:, :n_blocks], minus_zero=minus_zero)


def dequantize(type_name: str, data: np.ndarray, n_out: int, n_in: int) -> np.ndarray:
    """The plain weights (no inference gain), float32 [n_out, n_in], each product rounded in order."""
    if type_name in DENSE:
        return _dense(type_name, data).reshape(n_out, n_in)
    w = decode(type_name, data, n_out, n_in)
    factor = np.float32(1) if w.d is None else w.d[:, :, None]
    factor = factor if w.row_d is None else factor * _rows(w.row_d)
    scaled = np.repeat(factor * w.scale.astype(np.float32), 16, axis=2)  # [n_out, n_blocks, 32]
    values = w.q.astype(np.float32) * np.float32(w.step)
    if w.minus_zero is not None:
        values = np.where(w.minus_zero, np.float32(-0.0), values)
    if w.mean is not None:
        out = fma32(scaled, values, _rows(w.mean))
    elif w.min is not None and w.dmin is not None:
        out = scaled * values - np.repeat(w.dmin[:, :, None] * w.min.astype(np.float32), 16, axis=2)
    else:
        out = scaled * values
    return out.reshape(n_out, n_in)


def finite_rows(type_name: str, data: np.ndarray, n_out: int, n_in: int) -> np.ndarray:
    """Whether every float that the file holds of a row is a number, bool [n_out]."""
    if type_name in DENSE:
        return np.isfinite(_dense(type_name, data)).reshape(n_out, n_in).all(axis=1)
    w = decode(type_name, data, n_out, n_in)
    # An exponent is always finite, but times its largest code it may not be.
    if type_name == "MXFP4" and w.d is not None:
        with np.errstate(over="ignore"):
            w = replace(w, d=w.d * np.float32(number("kLargestFP4")))
    floats = (f.reshape(n_out, -1) for f in (w.d, w.dmin, w.row_d, w.mean) if f is not None)
    return np.isfinite(np.hstack(list(floats))).all(axis=1)


def _rows(values: np.ndarray) -> np.ndarray:
    return values[:, None, None]


def _dense(type_name: str, data: np.ndarray) -> np.ndarray:
    if type_name == "BF16":
        return (data.view("<u2").astype(np.uint32) << 16).view(np.float32)
    return data.view("<f4" if type_name == "F32" else "<f2").astype(np.float32)
