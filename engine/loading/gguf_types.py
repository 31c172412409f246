"""Names for the GGUF tensor type ids this build does not read, so that the refusal can say what was found."""

from kernels.quant_tensor import FILE_TYPES, TYPES_BY_GGML_ID

_MAINLINE = {
    2: "Q4_0", 3: "Q4_1", 6: "Q5_0", 7: "Q5_1", 8: "Q8_0", 9: "Q8_1", 10: "Q2_K", 11: "Q3_K", 12: "Q4_K",
    13: "Q5_K", 14: "Q6_K", 15: "Q8_K", 16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS", 19: "IQ1_S", 20: "IQ4_NL",
    21: "IQ3_S", 22: "IQ2_S", 23: "IQ4_XS", 24: "I8", 25: "I16", 26: "I32", 27: "I64", 28: "F64", 29: "IQ1_M",
    30: "BF16", 34: "TQ1_0", 35: "TQ2_0", 36: "I2_S", 39: "MXFP4", 40: "NVFP4", 41: "Q1_0",
}  # fmt: skip
_IK = {
    133: "Q6_0", 134: "IQ1_BN", 135: "IQ2_BN", 137: "IQ2_K", 138: "IQ3_K", 139: "IQ4_K", 140: "IQ5_K",
    141: "IQ6_K", 144: "IQ4_KS", 145: "IQ2_KS", 146: "IQ4_KSS", 151: "Q8_KV", 152: "IQ5_KS", 153: "IQ2_KT",
    154: "IQ3_KT", 155: "IQ4_KT", 156: "IQ3_KS", 157: "IQ2_KL", 158: "IQ1_KT",
}  # fmt: skip
#: Rows stored four, eight or sixteen at a time, interleaved.
ROW_INTERLEAVED = {
    202: "Q4_0_R8", 206: "Q5_0_R4", 208: "Q8_0_R8", 210: "Q2_K_R4", 211: "Q3_K_R4", 212: "Q4_K_R4",
    213: "Q5_K_R4", 214: "Q6_K_R4", 216: "IQ2_XXS_R4", 217: "IQ2_XS_R4", 218: "IQ3_XXS_R4", 219: "IQ1_S_R4",
    220: "IQ4_NL_R4", 221: "IQ3_S_R4", 222: "IQ2_S_R4", 223: "IQ4_XS_R8", 229: "IQ1_M_R4", 230: "BF16_R16",
    233: "Q6_0_R4", 335: "IQ2_BN_R4", 353: "MXFP4_R8", 397: "Q8_K_R16", 398: "Q8_KV_R8",
    399: "Q8_K_R8",
}  # fmt: skip
_NAMES = _MAINLINE | _IK | ROW_INTERLEAVED


def describe_unread_type(ggml_id: int) -> str:
    """One clause: the id, its name where it has one, and what this build reads instead."""
    interleaved = ", rows interleaved" if ggml_id in ROW_INTERLEAVED else ""
    name = f" ({_NAMES[ggml_id]}{interleaved})" if ggml_id in _NAMES else ""
    return f"GGUF type {ggml_id}{name}; this build reads {readable_types()}"


def readable_types() -> str:
    """The names a tensor of a file may have, for messages."""
    return ", ".join(t.name for t in FILE_TYPES.values() if TYPES_BY_GGML_ID[t.ggml_id] is t)
