"""Stacks of which a file holds the columns: their rows are made at load.

Blocks of a quantized type run along the file's rows. Across them there are none, so such a matrix becomes F16
numbers: the weights times the type's inference gain, each rounded once. A dense type keeps its numbers.
"""

import numpy as np

from engine.models.weight_source import Part
from kernels.quant_tensor import TYPES, QuantType
from kernels.reference.formats import DENSE
from kernels.reference.linear import linear_weights


def loaded_type(quant_type: QuantType, part: Part) -> QuantType:
    """What a part of a tensor of that type is loaded as."""
    return quant_type if not part.transposed or quant_type.name in DENSE else TYPES["F16"]


def transposed(quant_type: QuantType, data: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """File bytes of n matrices [n_in, n_out] -> those of the stack (n, n_out, n_in), in its `loaded_type`."""
    n, n_out, n_in = shape
    if quant_type.name in DENSE:
        numbers = data.view(f"u{quant_type.block_bytes}").reshape(n, n_in, n_out)
    else:
        numbers = np.empty((n, n_in, n_out), np.float16)
        for matrix, rows in zip(
            numbers, data.reshape(n, -1), strict=True
        ):  # one at a time: float64 takes memory
            matrix[...] = linear_weights(quant_type.name, rows, n_in, n_out)
    return np.ascontiguousarray(numbers.swapaxes(1, 2)).reshape(-1).view(np.uint8)
