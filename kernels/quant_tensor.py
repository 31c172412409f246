"""The table of tensor types, and the handle of a weight that a backend owns.

A type's bytes follow one rule (kt_format.md, section 0): a row is its header, then n_in / block_size blocks, and
in some types a tail of 32-blocks where n_in is no multiple of block_size.
The numbers inside a block live in kernels/common; this table is what a loader needs to find and check rows.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

ROWS_INTERLEAVED = 4  # rows of a unit, in the types named _R4
TAIL_BLOCK = 32  # weights
TAIL_ROW_ALIGNMENT = 4  # bytes that a row with a tail is filled up to a multiple of


@dataclass(frozen=True)
class QuantType:
    """How the rows of one GGUF tensor type are laid out in a file."""

    name: str
    ggml_id: int | None  # None: no file has the type; it is what an interleaved one is loaded as
    block_size: int  # weights
    block_bytes: int
    row_header_bytes: int = 0
    tail_nibbles: int = 0  # half bytes of a 32-block of a row's tail; 0: rows are whole blocks
    plain: "QuantType | None" = None  # what a type with interleaved rows, which only files have, is loaded as

    @property
    def rows_in_unit(self) -> int:
        """Rows whose bytes lie together: a matrix has a whole number of such units."""
        return 1 if self.plain is None else ROWS_INTERLEAVED

    @property
    def row_multiple(self) -> int:
        """What the number of weights in a row is a multiple of."""
        return TAIL_BLOCK if self.tail_nibbles else self.block_size

    def row_bytes(self, n_in: int) -> int:
        """Bytes of one row of n_in weights. Raises ValueError where n_in is no multiple of row_multiple."""
        if n_in % self.row_multiple:
            raise ValueError(f"a {self.name} row holds a multiple of {self.row_multiple} weights, not {n_in}")
        n_bytes = self.row_header_bytes + n_in // self.block_size * self.block_bytes
        n_tail_blocks = n_in % self.block_size // TAIL_BLOCK
        if n_tail_blocks == 0:
            return n_bytes
        n_bytes += -(-self.tail_nibbles * n_tail_blocks // 2)
        return -(-n_bytes // TAIL_ROW_ALIGNMENT) * TAIL_ROW_ALIGNMENT

    def matrix_bytes(self, n_out: int, n_in: int) -> int:
        """Raises ValueError where n_in is no multiple of row_multiple, or n_out not whole units."""
        if n_out % self.rows_in_unit:
            raise ValueError(
                f"{self.name} interleaves {self.rows_in_unit} rows, and {n_out} is no multiple of that"
            )
        return n_out * self.row_bytes(n_in)


_TABLE = (
    QuantType("F32", 0, 1, 4),
    QuantType("F16", 1, 1, 2),
    QuantType("BF16", 30, 1, 2),
    QuantType("Q4_0", 2, 32, 18),
    QuantType("Q4_1", 3, 32, 20),
    QuantType("Q5_0", 6, 32, 22),
    QuantType("Q5_1", 7, 32, 24),
    QuantType("Q8_0", 8, 32, 34),
    QuantType("Q6_0", 133, 32, 26),
    QuantType("Q2_K", 10, 256, 84),
    QuantType("Q3_K", 11, 256, 110),
    QuantType("Q4_K", 12, 256, 144),
    QuantType("Q5_K", 13, 256, 176),
    QuantType("Q6_K", 14, 256, 210),
    QuantType("IQ1_S", 19, 256, 50),
    QuantType("IQ1_M", 29, 256, 56),
    # The rows of IQ1_S_R4 and IQ1_M_R4, one after the other: no file has them so.
    QuantType("IQ1_S_32", None, 32, 6, row_header_bytes=2),
    QuantType("IQ1_M_32", None, 32, 7, row_header_bytes=2),
    QuantType("IQ2_XXS", 16, 256, 66),
    QuantType("IQ2_XS", 17, 256, 74),
    QuantType("IQ2_S", 22, 256, 82),
    QuantType("IQ3_XXS", 18, 256, 98),
    QuantType("IQ3_S", 21, 256, 110),
    QuantType("IQ4_NL", 20, 32, 18),
    QuantType("IQ4_XS", 23, 256, 136),
    QuantType("TQ1_0", 34, 256, 54),
    QuantType("TQ2_0", 35, 256, 66),
    QuantType("MXFP4", 39, 32, 17),
    QuantType("IQ2_K", 137, 256, 76),
    QuantType("IQ3_K", 138, 256, 110),
    QuantType("IQ4_K", 139, 256, 144),
    QuantType("IQ4_KS", 144, 256, 136, row_header_bytes=4),
    QuantType("IQ5_K", 140, 256, 176),
    QuantType("IQ6_K", 141, 256, 212),
    QuantType("IQ2_KS", 145, 256, 70, row_header_bytes=2),
    QuantType("IQ2_KL", 157, 256, 86, row_header_bytes=2),
    QuantType("IQ3_KS", 156, 256, 102, row_header_bytes=2),
    QuantType("IQ4_KSS", 146, 256, 128, row_header_bytes=4),
    QuantType("IQ5_KS", 152, 256, 168, row_header_bytes=4),
    QuantType("Q8_KV", 151, 32, 32, row_header_bytes=8),
    QuantType("IQ1_KT", 158, 256, 56, row_header_bytes=4),
    QuantType("IQ2_KT", 153, 256, 68, row_header_bytes=4),
    QuantType("IQ3_KT", 154, 256, 100, row_header_bytes=4, tail_nibbles=25),
    QuantType("IQ4_KT", 155, 256, 128, row_header_bytes=4, tail_nibbles=32),
    # The fp16 3INST trellis of May and June 2025: same ids in the file, told apart by --kt-trellis.
    QuantType("IQ2_KT_V1", 153, 256, 68, row_header_bytes=4),
    QuantType("IQ3_KT_V1", 154, 256, 100, row_header_bytes=4),
    QuantType("IQ4_KT_V1", 155, 256, 128, row_header_bytes=8),
)

#: The types a backend knows.
TYPES: dict[str, QuantType] = {t.name: t for t in _TABLE}


def _interleaved(name: str, ggml_id: int, plain_name: str) -> QuantType:
    return replace(TYPES[plain_name], name=name, ggml_id=ggml_id, plain=TYPES[plain_name])


_INTERLEAVED = (
    *(_interleaved(f"IQ{n}_K_R4", 335 + n, f"IQ{n}_K") for n in (2, 3, 4, 5)),
    _interleaved("IQ4_KS_R4", 344, "IQ4_KS"),
    _interleaved("IQ5_KS_R4", 352, "IQ5_KS"),
    _interleaved("IQ1_S_R4", 219, "IQ1_S_32"),
    _interleaved("IQ1_M_R4", 229, "IQ1_M_32"),
)

#: The types a file may hold: a backend's, and those that kernels/row_interleaving.py turns into them at load.
FILE_TYPES: dict[str, QuantType] = {t.name: t for t in (*_TABLE, *_INTERLEAVED) if t.ggml_id is not None}
#: What a GGUF id means when nothing says otherwise: the integer trellis for the KT ids.
TYPES_BY_GGML_ID: dict[int, QuantType] = {
    t.ggml_id: t for t in reversed(FILE_TYPES.values()) if t.ggml_id is not None
}


def check_uses(uses: frozenset[str]) -> None:
    """Raises ValueError unless uses is one or both of what `Ops.load_quant` loads a matrix for."""
    if not uses or not uses <= {"linear", "embed"}:
        raise ValueError(f'uses is {sorted(uses)}; "linear", "embed" or both')


def checked_stack_bytes(type_name: str, shape: tuple[int, int, int], data: Any) -> np.ndarray:
    """data as contiguous uint8 [n, bytes of a matrix]. Raises ValueError where it is not n such matrices."""
    n, n_out, n_in = shape
    if n < 1 or n_out < 1:
        raise ValueError(f"a stack of {n} matrices of {n_out} x {n_in} has no weights")
    return checked_file_bytes(type_name, (n * n_out, n_in), data).reshape(n, -1)


def checked_file_bytes(type_name: str, shape: tuple[int, int], data: Any) -> np.ndarray:
    """data as contiguous uint8. Raises ValueError where it is not a matrix of that type and shape."""
    if type_name not in TYPES:
        raise ValueError(f"no type {type_name!r}; this build has {', '.join(TYPES)}")
    n_out, n_in = shape
    if n_out < 1 or n_in < 1:
        raise ValueError(f"a matrix of {n_out} x {n_in} has no weights")
    file_bytes = np.ascontiguousarray(np.frombuffer(data, np.uint8))
    expected = TYPES[type_name].matrix_bytes(n_out, n_in)
    if file_bytes.size != expected:
        raise ValueError(f"{type_name} {n_out} x {n_in} is {expected} bytes, not {file_bytes.size}")
    return file_bytes


@dataclass(frozen=True)
class QuantTensor:
    """A matrix in the form its backend chose. Only that backend looks inside `data`.

    shape is (n_out, n_in); nbytes is the memory the backend holds for it.
    """

    data: Any
    type: QuantType
    shape: tuple[int, int]
    nbytes: int


@dataclass(frozen=True)
class QuantStack:
    """Matrices of one type and shape, in the form their backend chose: the experts of a layer, or its heads.

    shape is (n, n_out, n_in); nbytes is the memory the backend holds for all of them.
    """

    data: Any
    type: QuantType
    shape: tuple[int, int, int]
    nbytes: int
