"""Random file bytes of any type, with scales that keep a random network's activations near one.

Every bit pattern of a code is a valid weight; only the float scales need a value. `spread` is the root mean
square of a type's weights at scale 1 with random codes, measured, to a few percent.
"""

from typing import NamedTuple

import numpy as np

from kernels.quant_tensor import TYPES

MAX_FRESH_ROWS = 256  # a larger matrix repeats them: making gigabytes of random numbers would take minutes


class _Scale(NamedTuple):
    """Where a type's float scale stands, and how large weights are at scale 1."""

    spread: float
    offset: int | None = 0  # of the f16 scale in a block; None: an f32 scale opens the row
    min_offset: int | None = None  # of the f16 minimum
    min_ratio: float = 0.0  # minimum / scale at which weights are centred on zero


_SCALES = {
    "Q8_0": _Scale(74.0),
    "Q6_0": _Scale(18.5),
    "Q4_K": _Scale(320.0, 0, 2, 7.5),
    "Q5_K": _Scale(640.0, 0, 2, 15.5),
    "Q6_K": _Scale(1370.0, 208),
    "IQ3_S": _Scale(150.0),
    "IQ2_K": _Scale(88.0),
    "IQ3_K": _Scale(630.0),
    "IQ4_K": _Scale(1350.0),
    "IQ4_KS": _Scale(5300.0, None),
    "IQ1_KT": _Scale(2450.0, None),
    "IQ2_KT": _Scale(2450.0, None),
    "IQ3_KT": _Scale(325.0, None),
    "IQ4_KT": _Scale(1365.0, None),
    "IQ2_KT_V1": _Scale(2630.0, None),
    "IQ3_KT_V1": _Scale(350.0, None),
    "IQ4_KT_V1": _Scale(1465.0, None),
}


def random_rows(type_name: str, n_out: int, n_in: int, rng: np.random.Generator, std: float) -> np.ndarray:
    """File bytes of a matrix [n_out, n_in] whose weights have about the standard deviation std: uint8.

    Beyond MAX_FRESH_ROWS rows the same rows repeat.
    """
    n_fresh = min(n_out, MAX_FRESH_ROWS)
    make = _dense_rows if TYPES[type_name].block_size == 1 else _quantized_rows
    fresh = make(type_name, n_fresh, n_in, rng, std)  # [n_fresh, row_bytes]
    return np.resize(fresh, (n_out, fresh.shape[1])).reshape(-1)


def _dense_rows(type_name: str, n_out: int, n_in: int, rng: np.random.Generator, std: float) -> np.ndarray:
    values = rng.normal(0.0, std, (n_out, n_in)).astype("<f4")
    if type_name == "F16":
        return values.astype("<f2").view(np.uint8)
    if type_name == "BF16":
        return (values.view("<u4") >> 16).astype("<u2").view(np.uint8)
    return values.view(np.uint8)


def _quantized_rows(
    type_name: str, n_out: int, n_in: int, rng: np.random.Generator, std: float
) -> np.ndarray:
    quant_type, scale = TYPES[type_name], _SCALES[type_name]
    rows = rng.integers(0, 256, (n_out, quant_type.row_bytes(n_in)), np.uint8)
    n_blocks = n_in // quant_type.block_size
    # One size of scale a row or block, within a factor of three, of either sign where no minimum follows it.
    d = std / scale.spread * rng.uniform(0.5, 1.5, (n_out, 1 if scale.offset is None else n_blocks))
    if scale.min_offset is None:
        d *= rng.choice([-1.0, 1.0], d.shape)
    if scale.offset is None:
        rows[:, : quant_type.row_header_bytes] = 0  # IQ4_KT_V1 has a row mean behind its scale
        rows[:, :4] = d.astype("<f4").view(np.uint8)
        return rows
    blocks = rows.reshape(n_out, n_blocks, quant_type.block_bytes)
    blocks[:, :, scale.offset : scale.offset + 2] = d[..., None].astype("<f2").view(np.uint8)
    if scale.min_offset is not None:
        minimum = (d * scale.min_ratio)[..., None].astype("<f2").view(np.uint8)
        blocks[:, :, scale.min_offset : scale.min_offset + 2] = minimum
    return rows
