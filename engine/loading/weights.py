"""Tensors of a file become weights of a backend: bytes handed over, memory counted, progress told."""

from collections.abc import Callable, Mapping

import numpy as np

from engine.loading.gguf_file import GGUFFile
from engine.loading.gguf_index import TensorInfo
from engine.loading.weight_plan import find_tensor, read_vector, tensor_error
from engine.models.weight_source import LINEAR
from kernels.ops import Array, Ops
from kernels.quant_tensor import QuantTensor, QuantType
from kernels.row_interleaving import plain_rows

Progress = Callable[[int, int], None]  # bytes done, bytes in all


class FileWeights:
    """The WeightSource of a GGUF file. type_overrides: GGUF id -> the type to read it as (3INST)."""

    def __init__(
        self,
        gguf: GGUFFile,
        ops: Ops,
        type_overrides: Mapping[int, QuantType],
        progress: Progress | None = None,
    ) -> None:
        self.bytes_held = 0  # memory the backend holds for what was loaded so far
        self.type_bytes: dict[str, int] = {}  # of the matrices, by type, as the file holds them
        self._gguf = gguf
        self._ops = ops
        self._type_overrides = type_overrides
        self._progress = progress
        self._bytes_done = 0
        self._bytes_in_all = sum(tensor.nbytes for tensor in gguf.tensors.values())

    def has(self, name: str) -> bool:
        return name in self._gguf.tensors

    def matrix(self, name: str, n_out: int, n_in: int, uses: frozenset[str] = LINEAR) -> QuantTensor:
        tensor = find_tensor(self._gguf, name, (n_in, n_out))
        file_type = self._type_overrides.get(tensor.ggml_type, tensor.type)
        data = self._gguf.tensor_bytes(name, file_type)
        quant_type = file_type
        if file_type.plain is not None:
            data, quant_type = plain_rows(file_type.plain, n_in, data), file_type.plain
        bad_row = self._ops.first_nonfinite_row(quant_type.name, (n_out, n_in), data)
        if bad_row is not None:
            raise tensor_error(
                tensor, f"row {bad_row} of {n_out} holds a {file_type.name} factor that is NaN or infinite"
            )
        try:
            weight = self._ops.load_quant(quant_type.name, (n_out, n_in), data, uses)
        except ValueError as error:
            raise tensor_error(tensor, f"cannot be loaded as {file_type.name}: {error}") from error
        self.type_bytes[file_type.name] = self.type_bytes.get(file_type.name, 0) + data.nbytes
        self._done(tensor, weight.nbytes)
        return weight

    def vector(self, name: str, n: int) -> Array:
        return self.to_device(self.host_vector(name, n))

    def optional_vector(self, name: str, n: int) -> Array | None:
        return self.vector(name, n) if self.has(name) else None

    def host_vector(self, name: str, n: int) -> np.ndarray:
        values = read_vector(self._gguf, name, n)
        self._done(self._gguf.tensors[name], 0)
        return values

    def to_device(self, values: np.ndarray) -> Array:
        self.bytes_held += values.nbytes
        return self._ops.load_vector(values)

    def _done(self, tensor: TensorInfo, nbytes_held: int) -> None:
        self.bytes_held += nbytes_held
        self._bytes_done += tensor.nbytes
        if self._progress is not None:
            self._progress(self._bytes_done, self._bytes_in_all)
