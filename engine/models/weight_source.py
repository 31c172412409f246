"""Where a model's builder gets its weights: a file, or random numbers for a benchmark."""

from typing import Protocol

import numpy as np

from kernels.ops import Array
from kernels.quant_tensor import QuantTensor

LINEAR = frozenset({"linear"})
EMBED = frozenset({"embed"})


class WeightSource(Protocol):
    """Names are GGUF tensor names. What is missing or has another shape raises ModelFileError."""

    def has(self, name: str) -> bool: ...

    def matrix(self, name: str, n_out: int, n_in: int, uses: frozenset[str] = LINEAR) -> QuantTensor: ...

    def vector(self, name: str, n: int) -> Array:
        """A float32 vector on the backend's device."""

    def optional_vector(self, name: str, n: int) -> Array | None:
        """The vector, or None where the source has none of that name (biases)."""

    def host_vector(self, name: str, n: int) -> np.ndarray:
        """Numbers that a builder reckons with; float32 [n]."""

    def to_device(self, values: np.ndarray) -> Array:
        """What a builder worked out itself (rope frequencies), on the backend's device."""
