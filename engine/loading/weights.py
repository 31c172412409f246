"""Tensors of a file become weights of a backend: name and shape checked, bytes handed over, progress told."""

from collections.abc import Callable, Mapping

import numpy as np

from engine.errors import ModelFileError
from engine.loading.byte_reader import shown
from engine.loading.gguf_file import GGUFFile
from engine.loading.gguf_index import TensorInfo
from engine.models.weight_source import LINEAR
from kernels.ops import Array, Ops
from kernels.quant_tensor import QuantTensor, QuantType

Progress = Callable[[int, int], None]  # bytes done, bytes in all

#: Tensors that a forward pass does not need: a second copy of the output matrix in another type.
_KNOWN_UNUSED = frozenset({"output_extra.weight"})


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
        self._used: set[str] = set()
        self._bytes_done = 0
        self._bytes_in_all = sum(tensor.nbytes for tensor in gguf.tensors.values())

    def has(self, name: str) -> bool:
        return name in self._gguf.tensors

    def matrix(self, name: str, n_out: int, n_in: int, uses: frozenset[str] = LINEAR) -> QuantTensor:
        tensor = self._find(name, (n_in, n_out))
        quant_type = self._type_overrides.get(tensor.ggml_type, tensor.type)
        data = self._gguf.tensor_bytes(name, quant_type)
        bad_row = self._ops.first_nonfinite_row(quant_type.name, (n_out, n_in), data)
        if bad_row is not None:
            raise self._error(
                tensor, f"row {bad_row} of {n_out} holds a {quant_type.name} factor that is NaN or infinite"
            )
        try:
            weight = self._ops.load_quant(quant_type.name, (n_out, n_in), data, uses)
        except ValueError as error:
            raise self._error(tensor, f"cannot be loaded as {quant_type.name}: {error}") from error
        self.type_bytes[quant_type.name] = self.type_bytes.get(quant_type.name, 0) + data.nbytes
        self._done(tensor, weight.nbytes)
        return weight

    def vector(self, name: str, n: int) -> Array:
        return self.to_device(self.host_vector(name, n))

    def optional_vector(self, name: str, n: int) -> Array | None:
        return self.vector(name, n) if self.has(name) else None

    def host_vector(self, name: str, n: int) -> np.ndarray:
        tensor = self._find(name, (n,))
        data = self._gguf.tensor_bytes(name)
        match tensor.type.name:
            case "F32":
                values = data.view("<f4").astype(np.float32)
            case "F16":
                values = data.view("<f2").astype(np.float32)
            case "BF16":
                values = (data.view("<u2").astype(np.uint32) << 16).view(np.float32)
            case other:
                raise self._error(tensor, f"is a vector of type {other}; F32, F16 and BF16 vectors are read")
        if not np.isfinite(values).all():
            value = int(np.argmin(np.isfinite(values)))
            raise self._error(tensor, f"value {value} of {n} is {values[value]}, no finite number")
        self._done(tensor, 0)
        return values

    def to_device(self, values: np.ndarray) -> Array:
        self.bytes_held += values.nbytes
        return self._ops.load_vector(values)

    def unused(self) -> list[str]:
        """Names of the tensors nobody asked for, in file order, without those known to be extra."""
        return [name for name in self._gguf.tensors if name not in self._used | _KNOWN_UNUSED]

    def ignored_extras(self) -> list[str]:
        return [name for name in self._gguf.tensors if name in _KNOWN_UNUSED]

    def _find(self, name: str, shape: tuple[int, ...]) -> TensorInfo:
        tensor = self._gguf.tensors.get(name)
        if tensor is None:
            raise ModelFileError(
                f"{self._gguf.path}: tensor {shown(name)} is missing; "
                f"the model needs one of shape {list(shape)}"
            )
        found = list(tensor.shape)
        while len(found) > len(shape) and found[-1] == 1:  # [n, 1] is a vector
            found.pop()
        if found != list(shape):
            raise self._error(
                tensor, f"has the shape {list(tensor.shape)}; the hyperparameters give {list(shape)}"
            )
        return tensor

    def _error(self, tensor: TensorInfo, problem: str) -> ModelFileError:
        place = f"{tensor.file.path}: tensor {shown(tensor.name)} at byte {tensor.offset}"
        return ModelFileError(f"{place}: {problem}")

    def _done(self, tensor: TensorInfo, nbytes_held: int) -> None:
        self._used.add(tensor.name)
        self.bytes_held += nbytes_held
        self._bytes_done += tensor.nbytes
        if self._progress is not None:
            self._progress(self._bytes_done, self._bytes_in_all)
