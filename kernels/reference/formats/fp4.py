"""MXFP4: four-bit floats under a power of two (kernels/common/fp4_blocks.h)."""

import numpy as np

from kernels.reference.formats.blocks import Blocks, Decoder
from kernels.reference.formats.fields import low_nibbles, ones, u8
from kernels.reference.tables import table


def _half_of_e8m0(codes: np.ndarray) -> np.ndarray:
    """2^(code - 128) as float32."""
    return np.ldexp(np.float32(1), codes - 128)


def _mxfp4(blocks: np.ndarray, header: np.ndarray) -> Blocks:
    d = _half_of_e8m0(u8(blocks, 0, 1)[:, :, 0])
    return Blocks(table("kTableFP4")[low_nibbles(u8(blocks, 1, 16))], ones(blocks), d=d)


DECODERS: dict[str, Decoder] = {
    "MXFP4": _mxfp4,
}
