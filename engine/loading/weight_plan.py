"""A dry run of a model's builder over a file's index: which tensors it takes, as what, before one is loaded.

Every name and shape is checked in a moment, so that a wrong file is refused before gigabytes are read; what the
builder does not ask for is refused too, unless it is known to be a copy of what the model has anyway. The same
plan tells the memory that loading would take.
"""

import fnmatch
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from engine.errors import ModelFileError
from engine.loading.byte_reader import shown
from engine.loading.gguf_file import GGUFFile
from engine.loading.gguf_index import TensorInfo
from engine.loading.model_config import ModelConfig
from engine.models import ARCHITECTURES
from engine.models.weight_source import LINEAR
from kernels.ops import Array
from kernels.quant_tensor import QuantTensor, QuantType

#: Tensors that a forward pass does not need: name pattern -> what they are.
_HARMLESS = {
    "output_extra.weight": "a second copy of the output matrix",
    "blk.*.attn_rot_embd.weight": "rotary frequencies, which the metadata gives",
}


class PlannedMatrix(NamedTuple):
    """A matrix as it will be loaded. shape is (n_out, n_in)."""

    tensor: TensorInfo
    type: QuantType
    shape: tuple[int, int]
    uses: frozenset[str]


class WeightPlan:
    """The WeightSource that loads nothing. type_overrides: GGUF id -> the type to read it as (3INST)."""

    def __init__(self, gguf: GGUFFile, type_overrides: Mapping[int, QuantType]) -> None:
        self.matrices: list[PlannedMatrix] = []
        self.vector_bytes = 0
        self._gguf = gguf
        self._type_overrides = type_overrides
        self._used: set[str] = set()

    def has(self, name: str) -> bool:
        return name in self._gguf.tensors

    def matrix(self, name: str, n_out: int, n_in: int, uses: frozenset[str] = LINEAR) -> QuantTensor:
        tensor = find_tensor(self._gguf, name, (n_in, n_out))
        quant_type = self._type_overrides.get(tensor.ggml_type, tensor.type)
        self.matrices.append(PlannedMatrix(tensor, quant_type, (n_out, n_in), uses))
        self._used.add(name)
        return QuantTensor(None, quant_type, (n_out, n_in), 0)

    def vector(self, name: str, n: int) -> Array:
        return self.to_device(self.host_vector(name, n))

    def optional_vector(self, name: str, n: int) -> Array | None:
        return self.vector(name, n) if self.has(name) else None

    def host_vector(self, name: str, n: int) -> np.ndarray:
        self._used.add(name)
        return read_vector(self._gguf, name, n)

    def to_device(self, values: np.ndarray) -> Array:
        self.vector_bytes += values.nbytes
        return values

    def extras(self) -> list[str]:
        """Names of the tensors nobody asked for, in file order."""
        return [name for name in self._gguf.tensors if name not in self._used]


def plan_weights(gguf: GGUFFile, config: ModelConfig, type_overrides: Mapping[int, QuantType]) -> WeightPlan:
    """Raises ModelFileError for a tensor that is missing, has another shape, or that the model would leave out."""
    plan = WeightPlan(gguf, type_overrides)
    ARCHITECTURES[config.architecture](config, plan)
    unknown = [name for name in plan.extras() if harmless(name) is None]
    if unknown:
        subject = f"and {len(unknown) - 1} more are" if len(unknown) > 1 else "is"
        raise tensor_error(
            gguf.tensors[unknown[0]],
            f"{subject} no part of {config.architecture} as this build knows it; "
            "answers without what the file was trained with would be wrong",
        )
    return plan


def harmless(name: str) -> str | None:
    """What a tensor is that may be left out; None for every other name."""
    return next((what for pattern, what in _HARMLESS.items() if fnmatch.fnmatchcase(name, pattern)), None)


def find_tensor(gguf: GGUFFile, name: str, shape: tuple[int, ...]) -> TensorInfo:
    """shape in the file's order. Raises ModelFileError where there is none of that name and shape."""
    tensor = gguf.tensors.get(name)
    if tensor is None:
        raise ModelFileError(
            f"{gguf.path}: tensor {shown(name)} is missing; the model needs one of shape {list(shape)}"
        )
    found = list(tensor.shape)
    while len(found) > len(shape) and found[-1] == 1:  # [n, 1] is a vector
        found.pop()
    if found != list(shape):
        raise tensor_error(
            tensor, f"has the shape {list(tensor.shape)}; the hyperparameters give {list(shape)}"
        )
    return tensor


def read_vector(gguf: GGUFFile, name: str, n: int) -> np.ndarray:
    """float32 [n]. Raises ModelFileError as `find_tensor`, and for what is no finite number."""
    tensor = find_tensor(gguf, name, (n,))
    values = _plain_numbers(gguf, tensor)
    if not np.isfinite(values).all():
        value = int(np.argmin(np.isfinite(values)))
        raise tensor_error(tensor, f"value {value} of {n} is {values[value]}, no finite number")
    return values


def _plain_numbers(gguf: GGUFFile, tensor: TensorInfo) -> np.ndarray:
    data = gguf.tensor_bytes(tensor.name)
    match tensor.type.name:
        case "F32":
            return data.view("<f4").astype(np.float32)
        case "F16":
            return data.view("<f2").astype(np.float32)
        case "BF16":
            return (data.view("<u2").astype(np.uint32) << 16).view(np.float32)
    raise tensor_error(tensor, f"is a vector of type {tensor.type.name}; F32, F16 and BF16 vectors are read")


def tensor_error(tensor: TensorInfo, problem: str) -> ModelFileError:
    return ModelFileError(
        f"{tensor.file.path}: tensor {shown(tensor.name)} at byte {tensor.offset}: {problem}"
    )
