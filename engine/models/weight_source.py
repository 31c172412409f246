"""Where a model's builder gets its weights: a file, random numbers for a benchmark, a dry run that loads nothing."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from kernels.batches import Array
from kernels.ops import Ops
from kernels.quant_tensor import QuantStack, QuantTensor

LINEAR = frozenset({"linear"})
EMBED = frozenset({"embed"})


class Part(NamedTuple):
    """A matrix, or a stack of matrices, that is some rows of a tensor."""

    shape: tuple[int, ...]  # (n_out, n_in), or (n, n_out, n_in) for a stack
    rows: np.ndarray | None = None  # of the tensor, int64; None: all, in their order
    uses: frozenset[str] = LINEAR
    transposed: bool = False  # a stack: the rows are the columns of its matrices


class WeightSource(ABC):
    """Names are GGUF tensor names. What is missing or has another shape raises ModelFileError."""

    @abstractmethod
    def has(self, name: str) -> bool: ...

    @abstractmethod
    def parts(self, name: str, shape: tuple[int, ...], parts: Sequence[Part]) -> list[Any]:
        """A QuantTensor or a QuantStack for each part. shape: the tensor's, as the file has it (row length first)."""

    @abstractmethod
    def host_floats(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """Numbers that a builder reckons with. shape: the tensor's, as the file has it -> float32, rows first."""

    @abstractmethod
    def to_device(self, values: np.ndarray, name: str = "") -> Array:
        """What a builder worked out itself (rope frequencies), on the backend's device; on that of tensor `name`."""

    def host_of(self, name: str) -> Ops | None:
        """The host's backend, where that holds the tensor and the model's own is another."""
        return None

    def matrix(self, name: str, n_out: int, n_in: int, uses: frozenset[str] = LINEAR) -> QuantTensor:
        matrix: QuantTensor = self.parts(name, (n_in, n_out), [Part((n_out, n_in), uses=uses)])[0]
        return matrix

    def row_parts(self, name: str, rows: Sequence[np.ndarray], n_in: int) -> list[QuantTensor]:
        """Matrices of a tensor that holds them row by row in some order; rows: those of each, all rows in all."""
        n_out = sum(len(part) for part in rows)
        return self.parts(name, (n_in, n_out), [Part((len(part), n_in), part) for part in rows])

    def stack(self, name: str, n: int, n_out: int, n_in: int) -> QuantStack:
        """n matrices of one tensor: [n_in, n_out, n]."""
        stack: QuantStack = self.parts(name, (n_in, n_out, n), [Part((n, n_out, n_in))])[0]
        return stack

    def stack_halves(self, name: str, n: int, n_out: int, n_in: int) -> tuple[QuantStack, QuantStack]:
        """Two stacks from one tensor [n_in, 2 * n_out, n]: the first n_out rows of each matrix, and the others."""
        rows = np.arange(2 * n * n_out).reshape(n, 2, n_out)
        halves = [Part((n, n_out, n_in), rows[:, half].reshape(-1)) for half in range(2)]
        first, second = self.parts(name, (n_in, 2 * n_out, n), halves)
        return first, second

    def host_vector(self, name: str, n: int) -> np.ndarray:
        """float32 [n]"""
        return self.host_floats(name, (n,))

    def vector(self, name: str, n: int) -> Array:
        """A float32 vector on the backend's device."""
        return self.to_device(self.host_vector(name, n), name)

    def optional_vector(self, name: str, n: int) -> Array | None:
        """The vector, or None where the source has none of that name (biases)."""
        return self.vector(name, n) if self.has(name) else None
