"""A file's tensors as a backend's weights: found by name, checked for shape, handed over once."""

from collections.abc import Callable

import numpy as np

from engine.errors import ModelFileError
from engine.loading.byte_reader import shown
from engine.loading.gguf_file import GGUFFile
from engine.loading.gguf_index import TensorInfo
from engine.models.weight_source import LINEAR
from kernels.ops import Array, Ops
from kernels.quant_tensor import QuantTensor, QuantType

Progress = Callable[[int, int], None]  # bytes done, bytes in all
_VECTOR_DTYPES = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype("<u2")}


class FileWeights:
    """The WeightSource of a GGUF file. Counts the memory the backend holds and what it has read."""

    def __init__(
        self, gguf: GGUFFile, ops: Ops, as_types: dict[int, QuantType], progress: Progress | None = None
    ) -> None:
        """as_types: GGUF id -> another reading of it (kt_trellis.py)."""
        self._gguf, self._ops, self._as_types = gguf, ops, as_types
        self._progress = progress or (lambda done, total: None)
        self._total = sum(tensor.nbytes for tensor in gguf.tensors.values())
        self._done = 0
        self._read: set[str] = set()
        self.weight_bytes = 0

    def has(self, name: str) -> bool:
        return name in self._gguf.tensors

    def matrix(self, name: str, n_out: int, n_in: int, uses: frozenset[str] = LINEAR) -> QuantTensor:
        info = self._found(name, (n_in, n_out))
        quant_type = self._as_types.get(info.ggml_type, info.type)
        if n_in % quant_type.block_size:
            raise ModelFileError(
                f"{self._gguf.path}: tensor {shown(name)} has rows of {n_in} weights; "
                f"{quant_type.name} needs a multiple of {quant_type.block_size}"
            )
        data = self._gguf.tensor_bytes(name, quant_type)
        tensor = self._ops.load_quant(quant_type.name, (n_out, n_in), data, uses)
        self._account(info, tensor.nbytes)
        return tensor

    def vector(self, name: str, n: int) -> Array:
        return self._ops.load_vector(self.host_vector(name, n))

    def optional_vector(self, name: str, n: int) -> Array | None:
        return self.vector(name, n) if self.has(name) else None

    def host_vector(self, name: str, n: int) -> np.ndarray:
        info = self._found(name, (n,))
        dtype = _VECTOR_DTYPES.get(info.type.name)
        if dtype is None:
            raise ModelFileError(
                f"{self._gguf.path}: tensor {shown(name)} is a vector of type {info.type.name}; "
                f"vectors are {', '.join(_VECTOR_DTYPES)}"
            )
        stored = np.array(self._gguf.tensor_bytes(name)).view(dtype)  # a copy: the mapping will close
        self._account(info, 4 * n)
        if info.type.name == "BF16":
            return (stored.astype(np.uint32) << 16).view(np.float32)
        return stored.astype(np.float32)

    def to_device(self, values: np.ndarray) -> Array:
        return self._ops.load_vector(values)

    def unread(self) -> list[str]:
        """Tensors that the model had no use for."""
        return [name for name in self._gguf.tensors if name not in self._read]

    def _found(self, name: str, shape: tuple[int, ...]) -> TensorInfo:
        info = self._gguf.tensors.get(name)
        if info is None:
            raise ModelFileError(f"{self._gguf.path}: tensor {shown(name)} is missing")
        found = info.shape
        while len(found) > len(shape) and found[-1] == 1:
            found = found[:-1]
        if found != shape:
            raise ModelFileError(
                f"{self._gguf.path}: tensor {shown(name)} at byte {info.offset} has shape "
                f"{list(info.shape)}; the metadata asks for {list(shape)}"
            )
        return info

    def _account(self, info: TensorInfo, nbytes: int) -> None:
        self._read.add(info.name)
        self.weight_bytes += nbytes
        self._done += info.nbytes
        self._progress(self._done, self._total)
