"""What every decoder makes of file bytes: a matrix as integers, with what multiplies them."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass
class Blocks:
    """A matrix as integers, in blocks of 32 weights.

    A weight is factor * scale * q * step, where factor is the block's d, or the row's for types with a row
    header; some types subtract dmin * min or add the row's mean. Row-scaled types whose two scales of a block may
    differ have a d of ones beside row_d: their scales multiply the integer dots.
    """

    q: np.ndarray  # int32 [n_out, n_blocks, 32]
    scale: np.ndarray  # int32 [n_out, n_blocks, 2]  of weights 0..15 and 16..31
    d: np.ndarray | None = None  # float32 [n_out, n_blocks]; None: a row-scaled type with one scale a block
    row_d: np.ndarray | None = None  # float32 [n_out]
    mean: np.ndarray | None = None  # float32 [n_out]
    min: np.ndarray | None = None  # int32 [n_out, n_blocks, 2]  of the same halves
    dmin: np.ndarray | None = None  # float32 [n_out, n_blocks]
    minus_zero: np.ndarray | None = None  # bool like q: a stored sign on a magnitude of zero
    gain: float = 1.0  # of linears
    step: float = 1.0  # the unit of q


#: (blocks uint8 [n_out, n_file_blocks, block_bytes], headers uint8 [n_out, row_header_bytes]) -> Blocks
Decoder = Callable[[np.ndarray, np.ndarray], Blocks]
