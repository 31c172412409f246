"""The IQ types: several weights an index, into a grid of magnitudes (kernels/common/iq_blocks.h)."""

import numpy as np

from kernels.reference.formats.blocks import Blocks, Decoder
from kernels.reference.formats.fields import bits, both, f16, in_blocks, nibbles, per_block, u8
from kernels.reference.tables import table


def _iq3_s(blocks: np.ndarray, header: np.ndarray) -> Blocks:
    index = u8(blocks, 2, 64) | bits(u8(blocks, 66, 8), 8).reshape(*blocks.shape[:2], 64) << 8
    magnitudes = 2 * (table("kGridIQ3S")[index][..., None] >> (4 * np.arange(4)) & 15) + 1
    signs = 1 - 2 * bits(u8(blocks, 74, 32), 8).reshape(*blocks.shape[:2], 256)
    scales = 2 * nibbles(u8(blocks, 106, 4)).reshape(*blocks.shape[:2], 8) + 1
    q = magnitudes.reshape(*blocks.shape[:2], 256) * signs
    return Blocks(in_blocks(q), both(scales), d=per_block(f16(blocks, 0)))


DECODERS: dict[str, Decoder] = {
    "IQ3_S": _iq3_s,
}
