"""Tensors of a file become weights of a backend: bytes handed over, memory counted, progress told."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from engine.loading.gguf_file import GGUFFile
from engine.loading.gguf_index import TensorInfo
from engine.loading.placement import Placement
from engine.loading.transposition import loaded_type, transposed
from engine.loading.weight_plan import find_tensor, read_floats, tensor_error
from engine.models.weight_source import Part, WeightSource
from kernels.batches import Array
from kernels.ops import Ops
from kernels.quant_tensor import QuantStack, QuantTensor, QuantType
from kernels.row_interleaving import plain_rows

Progress = Callable[[int, int], None]  # bytes done, bytes in all


class FileWeights(WeightSource):
    """The WeightSource of a GGUF file. type_overrides: GGUF id -> the type to read it as (3INST)."""

    def __init__(
        self,
        gguf: GGUFFile,
        placement: Placement,
        type_overrides: Mapping[int, QuantType],
        progress: Progress | None = None,
    ) -> None:
        self.bytes_held = 0  # memory the backend holds for what was loaded so far
        self.type_bytes: dict[str, int] = {}  # of the matrices, by type, as the file holds them
        self._gguf = gguf
        self._placement = placement
        self._type_overrides = type_overrides
        self._progress = progress
        self._bytes_done = 0
        self._bytes_in_all = sum(tensor.nbytes for tensor in gguf.tensors.values())

    def has(self, name: str) -> bool:
        return name in self._gguf.tensors

    def parts(self, name: str, shape: tuple[int, ...], parts: Sequence[Part]) -> list[Any]:
        tensor = find_tensor(self._gguf, name, shape)
        n_rows, n_in = tensor.n_rows, shape[0]
        file_type = self._type_overrides.get(tensor.ggml_type, tensor.type)
        data = self._gguf.tensor_bytes(name, file_type)
        quant_type = file_type
        if file_type.plain is not None:
            data, quant_type = plain_rows(file_type.plain, n_in, data), file_type.plain
        ops = self._placement.ops_of(name)
        bad_row = ops.first_nonfinite_row(quant_type.name, (n_rows, n_in), data)
        if bad_row is not None:
            raise tensor_error(
                tensor, f"row {bad_row} of {n_rows} holds a {file_type.name} factor that is NaN or infinite"
            )
        try:
            weights = [load_part(ops, quant_type, data, n_rows, part) for part in parts]
        except ValueError as error:
            raise tensor_error(tensor, f"cannot be loaded as {file_type.name}: {error}") from error
        self.type_bytes[file_type.name] = self.type_bytes.get(file_type.name, 0) + data.nbytes
        self._done(tensor, sum(weight.nbytes for weight in weights))
        return weights

    def host_floats(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        values = read_floats(self._gguf, name, shape)
        self._done(self._gguf.tensors[name], 0)
        return values

    def to_device(self, values: np.ndarray, name: str = "") -> Array:
        self.bytes_held += values.nbytes
        return self._placement.ops_of(name).load_vector(values)

    def host_of(self, name: str) -> Ops | None:
        return self._placement.host if self._placement.ops_of(name) is self._placement.host else None

    def _done(self, tensor: TensorInfo, nbytes_held: int) -> None:
        self.bytes_held += nbytes_held
        self._bytes_done += tensor.nbytes
        if self._progress is not None:
            self._progress(self._bytes_done, self._bytes_in_all)


def load_part(
    ops: Ops, quant_type: QuantType, data: np.ndarray, n_rows: int, part: Part
) -> QuantTensor | QuantStack:
    """data: the file bytes of n_rows rows. Raises ValueError as `Ops.load_quant` and `Ops.load_stack`."""
    chosen = data if part.rows is None else data.reshape(n_rows, -1)[part.rows].reshape(-1)
    type_name = loaded_type(quant_type, part).name
    if part.transposed:
        chosen = transposed(quant_type, chosen, part.shape)
    if len(part.shape) == 2:
        return ops.load_quant(type_name, (part.shape[0], part.shape[1]), chosen, part.uses)
    return ops.load_stack(type_name, (part.shape[0], part.shape[1], part.shape[2]), chosen)
