"""Names for the GGUF tensor types this build does not read, so that the refusal can say what was found."""

import math

from kernels.quant_tensor import FILE_TYPES, TYPES_BY_GGML_ID

_WHOLE_ROWS = {
    9: "Q8_1", 15: "Q8_K", 24: "I8", 25: "I16", 26: "I32", 27: "I64", 28: "F64", 36: "I2_S", 40: "NVFP4", 41: "Q1_0",
    134: "IQ1_BN", 135: "IQ2_BN",
}  # fmt: skip
#: Rows stored four, eight or sixteen at a time, interleaved.
ROW_INTERLEAVED = {
    202: "Q4_0_R8", 206: "Q5_0_R4", 208: "Q8_0_R8", 210: "Q2_K_R4", 211: "Q3_K_R4", 212: "Q4_K_R4",
    213: "Q5_K_R4", 214: "Q6_K_R4", 216: "IQ2_XXS_R4", 217: "IQ2_XS_R4", 218: "IQ3_XXS_R4",
    220: "IQ4_NL_R4", 221: "IQ3_S_R4", 222: "IQ2_S_R4", 223: "IQ4_XS_R8", 230: "BF16_R16",
    233: "Q6_0_R4", 335: "IQ2_BN_R4", 353: "MXFP4_R8", 397: "Q8_K_R16", 398: "Q8_KV_R8",
    399: "Q8_K_R8",
}  # fmt: skip
_NAMES = _WHOLE_ROWS | ROW_INTERLEAVED
#: Bytes for 256 weights that a public fork (HIP, Vulkan) writes under the ids of IQ2_KT and IQ3_KT, with or without a
#: float32 before a row. Its IQ4_KT blocks hold other fields in as many bytes: nothing in a file tells them apart.
_FOREIGN_BLOCK_BYTES = {153: 64, 154: 96}
FOREIGN_BLOCKS = (
    "has the size of other blocks, which a fork of llama.cpp for HIP and Vulkan writes under this type id; "
    "a file that ik_llama.cpp quantized is needed"
)


def describe_unread_type(ggml_id: int) -> str:
    """One clause: the id, its name where it has one, and what this build reads instead."""
    interleaved = ", rows interleaved" if ggml_id in ROW_INTERLEAVED else ""
    name = f" ({_NAMES[ggml_id]}{interleaved})" if ggml_id in _NAMES else ""
    return f"GGUF type {ggml_id}{name}; this build reads {readable_types()}"


def foreign_blocks_fit(ggml_id: int, shape: tuple[int, ...], space: int, alignment: int) -> bool:
    """Whether a tensor of this shape, in the fork's blocks, would fill the space up to the next tensor."""
    block_bytes = _FOREIGN_BLOCK_BYTES.get(ggml_id)
    if block_bytes is None or shape[0] % 256:
        return False
    n_rows, row_bytes = math.prod(shape[1:]), shape[0] // 256 * block_bytes
    sizes = [n_rows * (header + row_bytes) for header in (0, 4)]
    return any(space in (size, -(-size // alignment) * alignment) for size in sizes)


def readable_types() -> str:
    """The names a tensor of a file may have, for messages."""
    return ", ".join(t.name for t in FILE_TYPES.values() if t in TYPES_BY_GGML_ID.values())
