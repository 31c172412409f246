"""Which trellis a file's IQ2_KT, IQ3_KT and IQ4_KT tensors were made with: the integer one, or fp16 3INST.

For four weeks of 2025 the same type ids meant another generator, and nothing in the metadata says so.
Two things do. IQ4_KT rows were 4 bytes longer, so the gap to the next tensor tells. And a quantizer picks
codewords unevenly by their energy: read with the right generator the histogram of the indices over energy
is uneven, read with the wrong one it is flat. Rows with a tail, no multiple of 256 weights, came a year later.
"""

from collections.abc import Iterator
from typing import Literal

import numpy as np

from engine.loading.gguf_file import GGUFFile
from engine.loading.gguf_index import TensorInfo
from engine.loading.weight_plan import tensor_error
from kernels.ops import Ops
from kernels.quant_tensor import TYPES, QuantType

Trellis = Literal["auto", "integer", "3inst"]
TRELLIS_CHOICES: tuple[Trellis, ...] = ("auto", "integer", "3inst")

#: Types that came after 3INST had gone: IQ3_KS, IQ2_KL, IQ1_KT. A file with one of them is integer.
_LATER_IDS = frozenset({156, 157, 158})
_TWO_MEANINGS = {  # id -> its 3INST reading
    t.ggml_id: t for t in TYPES.values() if t.ggml_id is not None and t.name.endswith("_V1")
}
_IQ4_KT = TYPES["IQ4_KT"].ggml_id

N_BINS = 32  # of equal population in codewords
N_CODEWORDS = 1 << 16
MAX_SAMPLE = 1 << 17  # groups of 8 weights, over the whole file
SURELY_UNEVEN, SURELY_FLAT = 3.0, 2.0  # chi-square per degree of freedom


def three_inst_types(gguf: GGUFFile, ops: Ops, choice: Trellis) -> dict[int, QuantType]:
    """GGUF id -> 3INST type for the ids that are to be read so; empty where the integer trellis holds.

    Integer unless the evidence is clear: that is what nearly all files are. Raises ModelFileError where 3INST
    is asked for and cannot be.
    """
    if choice not in TRELLIS_CHOICES:
        raise ValueError(f"no trellis named {choice!r}; there are {', '.join(TRELLIS_CHOICES)}")
    ids = {tensor.ggml_type for tensor in gguf.tensors.values()}
    if choice == "integer" or not ids & _TWO_MEANINGS.keys():
        return {}
    with_tail = _with_tail(gguf)
    if choice == "auto" and (with_tail or ids & _LATER_IDS or not _looks_three_inst(gguf, ops)):
        return {}
    if with_tail:
        raise tensor_error(
            with_tail,
            f"has rows of {with_tail.shape[0]} weights, which no 3INST type has; "
            "--kt-trellis integer reads the file",
        )
    return {ggml_id: _TWO_MEANINGS[ggml_id] for ggml_id in ids & _TWO_MEANINGS.keys()}


def _with_tail(gguf: GGUFFile) -> TensorInfo | None:
    """A tensor of an id with two meanings whose rows are no whole blocks."""
    tensors = (t for t in gguf.tensors.values() if t.ggml_type in _TWO_MEANINGS)
    return next((t for t in tensors if t.shape[0] % t.type.block_size), None)


def _looks_three_inst(gguf: GGUFFile, ops: Ops) -> bool:
    by_size = _verdict_by_size(gguf)
    if by_size is not None:
        return by_size
    indices = _sample_indices(gguf)
    if len(indices) == 0:
        return False
    three_inst, integer = (unevenness(indices, energies(ops, name)) for name in ("IQ2_KT_V1", "IQ2_KT"))
    return three_inst > SURELY_UNEVEN and integer < SURELY_FLAT


def _verdict_by_size(gguf: GGUFFile) -> bool | None:
    """True: the gaps after the IQ4_KT tensors fit 3INST rows alone. None: no such tensor, or either fits."""
    fits = [(_fills(t, TYPES["IQ4_KT"]), _fills(t, TYPES["IQ4_KT_V1"]))
            for t in gguf.tensors.values() if t.ggml_type == _IQ4_KT]  # fmt: skip
    only_integer = any(integer and not three_inst for integer, three_inst in fits)
    only_three_inst = any(three_inst and not integer for integer, three_inst in fits)
    if only_integer or only_three_inst:
        return only_three_inst and not only_integer
    return None


def _fills(tensor: TensorInfo, quant_type: QuantType) -> bool:
    """Whether the tensor, read as quant_type, leaves no more than padding before the next."""
    slack = tensor.space - quant_type.row_bytes(tensor.shape[0]) * tensor.n_rows
    return 0 <= slack < tensor.alignment


def _sample_indices(gguf: GGUFFile) -> np.ndarray:
    """Codeword indices of IQ2_KT and IQ3_KT groups, evenly spread over rows; all-zero 32-blocks left out."""
    types = (TYPES["IQ2_KT"], TYPES["IQ3_KT"])
    tensors = [t for t in gguf.tensors.values() if t.ggml_type in {q.ggml_id for q in types}]
    share = MAX_SAMPLE // max(len(tensors), 1)
    samples = [block for t in tensors for block in _tensor_indices(gguf, t, share)]
    return np.concatenate(samples) if samples else np.zeros(0, np.uint16)


def _tensor_indices(gguf: GGUFFile, tensor: TensorInfo, share: int) -> Iterator[np.ndarray]:
    """One array of group indices per sampled row, about `share` indices together and at least one row's."""
    groups_per_row = tensor.shape[0] // 8
    n_rows = min(max(share // groups_per_row, 1), tensor.n_rows)
    for row in np.linspace(0, tensor.n_rows - 1, n_rows).astype(int).tolist():
        data = gguf.tensor_row(tensor.name, row)
        blocks = data[tensor.type.row_header_bytes :].reshape(-1, tensor.type.block_bytes)
        indices = np.ascontiguousarray(blocks[:, 4:68]).view("<u2").reshape(-1, 4)  # four groups a 32-block
        yield indices[indices.any(axis=1)].ravel()[:share]


def energies(ops: Ops, type_name: str) -> np.ndarray:
    """The sum of squares of each of the 65536 codewords, up to a common factor. type_name: IQ2_KT or its V1.

    Asked of the backend's own decoder, a table whose rows hold every index once: the generator is written
    down in one place only.
    """
    quant_type, n_rows = TYPES[type_name], 256
    n_blocks = N_CODEWORDS // n_rows // 32  # blocks a row; 32 groups a block
    rows = np.zeros((n_rows, quant_type.row_bytes(n_blocks * 256)), np.uint8)
    rows[:, :4] = np.full(n_rows, 1.0, "<f4")[:, None].view(np.uint8)
    blocks = rows[:, 4:].reshape(n_rows, n_blocks, quant_type.block_bytes)
    blocks[:, :, :4] = 0xFF  # the largest positive scale in all eight 32-blocks
    indices = np.arange(N_CODEWORDS, dtype="<u2").reshape(n_rows, n_blocks, 32)
    blocks[:, :, 4:68] = indices.view(np.uint8)
    table = ops.load_quant(type_name, (n_rows, n_blocks * 256), rows.reshape(-1), frozenset({"embed"}))
    ops.begin_step()
    weights = ops.to_host(ops.embed(table, ops.index_array(np.arange(n_rows, dtype=np.int32))))
    return np.square(weights.reshape(N_CODEWORDS, 8), dtype=np.float64).sum(axis=1)


def unevenness(indices: np.ndarray, energy: np.ndarray) -> float:
    """Chi-square per degree of freedom of the indices over equally populated bins of codeword energy."""
    bin_of = np.empty(N_CODEWORDS, np.int64)
    bin_of[np.argsort(energy, kind="stable")] = np.arange(N_CODEWORDS) * N_BINS // N_CODEWORDS
    observed = np.bincount(bin_of[indices], minlength=N_BINS)
    expected = len(indices) / N_BINS
    return float(np.square(observed - expected).sum() / expected / (N_BINS - 1))
