"""A dry run of a model's builder over a file's index: which tensors it takes, as what, before one is loaded.

Every name and shape is checked in a moment, so that a wrong file is refused before gigabytes are read; what the
builder does not ask for is refused too, unless it is known to be a copy of what the model has anyway. The same
plan tells the memory that loading would take.
"""

import fnmatch
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from engine.errors import ModelFileError
from engine.loading.byte_reader import shown
from engine.loading.gguf_file import GGUFFile
from engine.loading.gguf_index import TensorInfo
from engine.loading.transposition import loaded_type
from engine.models import ARCHITECTURES, build_model
from engine.models.config import ModelConfig
from engine.models.model import Model
from engine.models.weight_source import Part, WeightSource
from kernels.quant_tensor import QuantStack, QuantTensor, QuantType

#: Tensors that a forward pass does not need: name pattern -> what they are.
_HARMLESS = {
    "output_extra.weight": "a second copy of the output matrix",
    "blk.*.attn_rot_embd.weight": "rotary frequencies, which the metadata gives",
}


class PlannedMatrix(NamedTuple):
    """A matrix as it will be loaded, or a stack of them. shape is (n_out, n_in) or (n, n_out, n_in)."""

    tensor: TensorInfo
    type: QuantType
    shape: tuple[int, ...]
    uses: frozenset[str]


class LoadPlan(NamedTuple):
    """What loading a file will make of it."""

    model: Model  # its shapes and its caches, and no weight
    matrices: list[PlannedMatrix]
    vector_bytes: int
    skipped: dict[str, str]  # tensors that the model leaves out, and what they are


class WeightPlan(WeightSource):
    """The WeightSource that loads nothing. type_overrides: GGUF id -> the type to read it as (3INST)."""

    def __init__(self, gguf: GGUFFile, type_overrides: Mapping[int, QuantType]) -> None:
        self.matrices: list[PlannedMatrix] = []
        self.vector_bytes = 0
        self._gguf = gguf
        self._type_overrides = type_overrides
        self._used: set[str] = set()
        self._optional: dict[str, bool] = {}  # name -> whether the file has it

    def has(self, name: str) -> bool:
        return name in self._gguf.tensors

    def parts(self, name: str, shape: tuple[int, ...], parts: Sequence[Part]) -> list[Any]:
        tensor = find_tensor(self._gguf, name, shape)
        quant_type = self._type_overrides.get(tensor.ggml_type, tensor.type)
        self.matrices += [
            PlannedMatrix(tensor, loaded_type(quant_type, part), part.shape, part.uses) for part in parts
        ]
        self._used.add(name)
        return [without_numbers(quant_type, part) for part in parts]

    def host_floats(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        self._used.add(name)
        return read_floats(self._gguf, name, shape)

    def to_device(self, values: np.ndarray, name: str = "") -> np.ndarray:
        self.vector_bytes += values.nbytes
        return values

    def optional_vector(self, name: str, n: int) -> Any:
        self._optional[name] = self.has(name)
        return super().optional_vector(name, n)

    def missing_in_a_layer(self) -> str | None:
        """The first optional tensor that the file does not have and has in another layer."""
        present = {_of_any_layer(name) for name, is_there in self._optional.items() if is_there}
        absent = (name for name, is_there in self._optional.items() if not is_there)
        return next((name for name in absent if _of_any_layer(name) in present), None)

    def extras(self) -> list[str]:
        """Names of the tensors nobody asked for, in file order."""
        return [name for name in self._gguf.tensors if name not in self._used]


def plan_weights(gguf: GGUFFile, config: ModelConfig, type_overrides: Mapping[int, QuantType]) -> LoadPlan:
    """Raises ModelFileError for a tensor that is missing, has another shape, or that the model would leave out."""
    plan = WeightPlan(gguf, type_overrides)
    model = build_model(config, plan)
    if missing := plan.missing_in_a_layer():
        raise ModelFileError(f"{gguf.path}: tensor {shown(missing)} is missing; other layers have theirs")
    extras = {name: _harmless(name, config) for name in plan.extras()}
    unknown = [name for name, what in extras.items() if what is None]
    if unknown:
        subject = f"and {len(unknown) - 1} more are" if len(unknown) > 1 else "is"
        raise tensor_error(
            gguf.tensors[unknown[0]],
            f"{subject} no part of {config.architecture} as this build knows it; "
            "answers without what the file was trained with would be wrong",
        )
    skipped = {name: what for name, what in extras.items() if what is not None}
    return LoadPlan(model, plan.matrices, plan.vector_bytes, skipped)


def _of_any_layer(name: str) -> str:
    return re.sub(r"^blk\.\d+\.", "blk.*.", name)


def without_numbers(quant_type: QuantType, part: Part) -> QuantTensor | QuantStack:
    """A weight that has a type and a shape and no numbers."""
    quant_type = loaded_type(quant_type, part)
    if len(part.shape) == 2:
        return QuantTensor(None, quant_type, (part.shape[0], part.shape[1]), 0)
    return QuantStack(None, quant_type, (part.shape[0], part.shape[1], part.shape[2]), 0)


def _harmless(name: str, config: ModelConfig) -> str | None:
    """What a tensor is that may be left out; None for every other name."""
    known = {**_HARMLESS, **ARCHITECTURES[config.architecture].skipped(config)}
    return next((what for pattern, what in known.items() if fnmatch.fnmatchcase(name, pattern)), None)


def find_tensor(gguf: GGUFFile, name: str, shape: tuple[int, ...]) -> TensorInfo:
    """shape in the file's order. Raises ModelFileError where there is none of that name and shape."""
    tensor = gguf.tensors.get(name)
    if tensor is None:
        raise ModelFileError(
            f"{gguf.path}: tensor {shown(name)} is missing; the model needs one of shape {list(shape)}"
        )
    if _without_ones(shape) not in (_without_ones(tensor.shape), _as_stack(tensor.shape, shape)):
        raise tensor_error(
            tensor, f"has the shape {list(tensor.shape)}; the hyperparameters give {list(shape)}"
        )
    return tensor


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    """[n, 1] is a vector, and [n, m, 1] a matrix."""
    n_axes = max((i + 1 for i, n in enumerate(shape) if n != 1), default=1)
    return shape[:n_axes]


def _as_stack(found: tuple[int, ...], shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """The shape of a stack where what was found is its matrices one below the other, as ik_llama.cpp writes MLA's."""
    is_flat = len(shape) == 3 and found == (shape[0], shape[1] * shape[2])
    return _without_ones(shape) if is_flat else None


def read_floats(gguf: GGUFFile, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """shape in the file's order -> float32, rows first: a vector [n], or [n_rows, n] for the shape (n, n_rows).

    Raises ModelFileError as `find_tensor`, and for what is no finite number.
    """
    tensor = find_tensor(gguf, name, shape)
    values = _plain_numbers(gguf, tensor)
    if not np.isfinite(values).all():
        value = int(np.argmin(np.isfinite(values)))
        raise tensor_error(tensor, f"value {value} of {len(values)} is {values[value]}, no finite number")
    return values.reshape(shape[::-1])


def _plain_numbers(gguf: GGUFFile, tensor: TensorInfo) -> np.ndarray:
    data = gguf.tensor_bytes(tensor.name)
    match tensor.type.name:
        case "F32":
            return data.view("<f4").astype(np.float32)
        case "F16":
            return data.view("<f2").astype(np.float32)
        case "BF16":
            return (data.view("<u2").astype(np.uint32) << 16).view(np.float32)
    raise tensor_error(tensor, f"is of type {tensor.type.name}; F32, F16 and BF16 are read here")


def tensor_error(tensor: TensorInfo, problem: str) -> ModelFileError:
    return ModelFileError(
        f"{tensor.file.path}: tensor {shown(tensor.name)} at byte {tensor.offset}: {problem}"
    )
