"""Random file bytes of any type: what tests, kernel benchmarks and synthetic models multiply with.

Codes are uniform bits; scales are set so that a weight's size is about the given deviation, which keeps the
activations of a deep model finite. Not a quantizer: no float weights are approximated.
"""

import numpy as np

from kernels.quant_tensor import FILE_TYPES, TYPES, QuantType

#: Where a block keeps its float16 factors (byte offsets), by type. Row-header types keep theirs in the header.
_F16_FACTORS: dict[str, tuple[int, ...]] = {
    "Q4_0": (0,), "Q4_1": (0, 2), "Q5_0": (0,), "Q5_1": (0, 2), "Q2_K": (80, 82), "Q3_K": (108,), "IQ1_S": (0,),
    "IQ2_XXS": (0,), "IQ2_XS": (0,), "IQ2_S": (0,), "IQ3_XXS": (0,), "IQ4_NL": (0,), "IQ4_XS": (0,), "TQ1_0": (52,),
    "TQ2_0": (64,),
    "Q8_0": (0,), "Q6_0": (0,), "Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,), "IQ3_S": (0,), "IQ2_K": (0,),
    "IQ3_K": (0,), "IQ4_K": (0,), "IQ5_K": (0,), "IQ6_K": (0,),
}  # fmt: skip
#: Root mean square of integer weight times integer scale under uniform random codes, rounded.
_RMS = {
    "Q4_0": 4.6, "Q4_1": 8.9, "Q5_0": 9.2, "Q5_1": 18.0, "Q2_K": 19.0, "Q3_K": 43.0, "IQ1_S": 7.2,
    "IQ1_M": 7.1, "IQ1_S_32": 7.2, "IQ1_M_32": 6.9,
    "IQ2_XXS": 53.0, "IQ2_XS": 55.0, "IQ2_S": 57.0, "IQ3_XXS": 140.0, "IQ4_NL": 67.0,
    "IQ4_XS": 1240.0, "TQ1_0": 0.8, "TQ2_0": 1.2, "MXFP4": 7.4,
    "Q8_0": 74.0, "Q6_0": 18.5, "Q4_K": 320.0, "Q5_K": 650.0, "Q6_K": 1370.0, "IQ3_S": 130.0, "IQ2_K": 83.0,
    "IQ3_K": 590.0, "IQ4_K": 1290.0, "IQ4_KS": 5100.0, "IQ1_KT": 2430.0, "IQ2_KT": 2430.0, "IQ3_KT": 325.0,
    "IQ4_KT": 1370.0, "IQ2_KT_V1": 2620.0, "IQ3_KT_V1": 350.0, "IQ4_KT_V1": 1470.0,
    "IQ5_K": 1240.0, "IQ6_K": 5270.0, "IQ2_KS": 170.0, "IQ2_KL": 580.0, "IQ3_KS": 330.0, "IQ4_KSS": 5100.0,
    "IQ5_KS": 4930.0, "Q8_KV": 74.0,
}  # fmt: skip


def random_weight(
    type_name: str, n_out: int, n_in: int, rng: np.random.Generator, deviation: float = 0.02
) -> np.ndarray:
    """File bytes of an n_out x n_in matrix, uint8 [n_out * row_bytes]. Factors vary by row or block, sign too."""
    quant_type = TYPES.get(type_name) or FILE_TYPES[type_name]
    if quant_type.block_size == 1:
        return _dense(type_name, rng.standard_normal((n_out, n_in), np.float32) * np.float32(deviation))
    plain, together = quant_type.plain or quant_type, quant_type.rows_in_unit
    n_bytes = quant_type.matrix_bytes(n_out, n_in)
    units = np.frombuffer(rng.bytes(n_bytes), np.uint8).reshape(n_out // together, -1).copy()
    factor = deviation / _RMS[plain.name]
    n_header = together * quant_type.row_header_bytes
    n_blocks, block_bytes = n_in // quant_type.block_size, together * quant_type.block_bytes
    blocks = units[:, n_header : n_header + n_blocks * block_bytes].reshape(len(units), n_blocks, block_bytes)
    if n_header:
        d = _around(factor, (len(units), together), rng)
        units[:, :n_header] = _header(quant_type, d, blocks, deviation, rng)
    for offset in _F16_FACTORS.get(plain.name, ()):
        factors = _around(factor, (*blocks.shape[:2], together), rng).astype(np.float16)
        blocks[:, :, together * offset : together * (offset + 2)] = factors.view(np.uint8)
    if type_name == "IQ1_M":
        _spread_over_nibbles(blocks[:, :, 48:56], _around(factor, blocks.shape[:2], rng).astype(np.float16))
    if type_name == "MXFP4":
        blocks[:, :, 0] = 128 + round(np.log2(factor)) + rng.integers(-1, 2, blocks.shape[:2])
    return units.reshape(-1)


def _dense(type_name: str, values: np.ndarray) -> np.ndarray:
    if type_name == "F16":
        return values.astype(np.float16).view(np.uint8).reshape(-1)
    if type_name == "BF16":
        return (values.view(np.uint32) >> 16).astype(np.uint16).view(np.uint8).reshape(-1)
    return values.view(np.uint8).reshape(-1)


def _around(factor: float, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """float32, half to one and a half times the factor, either sign."""
    signs = rng.choice(np.array([-1, 1], np.float32), shape)
    return (signs * rng.uniform(0.5, 1.5, shape) * factor).astype(np.float32)


def _header(
    quant_type: QuantType, d: np.ndarray, blocks: np.ndarray, deviation: float, rng: np.random.Generator
) -> np.ndarray:
    """uint8 [n_units, rows_in_unit * row_header_bytes]: d as float16 or float32, then what lies beside it."""
    match quant_type.name:
        case "IQ4_KT_V1":  # the row's mean
            mean = (rng.standard_normal(d.shape) * deviation / 10).astype(np.float32)
            return np.hstack([d, mean]).view(np.uint8)
        case "Q8_KV":  # the sum of the row's codes
            sums = blocks.view(np.int8).sum(axis=(1, 2), dtype=np.int32)[:, None]
            return np.hstack([d.view(np.uint8), sums.view(np.uint8)])
        case _:
            return d.astype(np.float16 if quant_type.row_header_bytes == 2 else np.float32).view(np.uint8)


def _spread_over_nibbles(fields: np.ndarray, factors: np.ndarray) -> None:
    """float16 factors into the upper nibbles of four words a block. fields uint8 [n_out, n_blocks, 8]"""
    nibbles = factors.view(np.uint16)[:, :, None] >> (4 * np.arange(4, dtype=np.uint16)) & 15
    fields[:, :, 1::2] = fields[:, :, 1::2] & 15 | (nibbles << 4).astype(np.uint8)
