"""Models of random weights, made in memory: what a benchmark needs of a model is its shape and its types."""

from typing import NamedTuple

import numpy as np

from engine.loading.model_config import ModelConfig, RopeConfig
from engine.loading.weights import Progress
from engine.models.weight_source import LINEAR
from kernels.ops import Array, Ops
from kernels.quant_tensor import TYPES, QuantTensor
from kernels.random_weights import random_weight

MAX_FRESH_ROWS = 256  # a larger matrix repeats them: making gigabytes of random numbers would take minutes


class SyntheticShape(NamedTuple):
    """A model's shape, and the type of its two vocabulary matrices."""

    config: ModelConfig
    vocab_type: str


SHAPES = {
    "llama-0.85b": SyntheticShape(
        ModelConfig("llama", 16, 2048, 32, 8, 64, 5632, 32000, 16384, 1e-5, RopeConfig(64)), "Q8_0"
    ),
    "llama-3.1-8b": SyntheticShape(
        ModelConfig("llama", 32, 4096, 32, 8, 128, 14336, 128256, 131072, 1e-5, RopeConfig(128, 500000.0)),
        "Q6_K",
    ),
}
VOCAB_MATRICES = ("token_embd.weight", "output.weight")


def find_shape(shape_name: str, type_name: str) -> SyntheticShape:
    """Raises ValueError, with what there is, for a shape or a type this build does not have."""
    if shape_name not in SHAPES:
        raise ValueError(f"no synthetic shape named {shape_name!r}; there are {', '.join(SHAPES)}")
    if type_name not in TYPES:
        raise ValueError(f"no type named {type_name!r}; there are {', '.join(TYPES)}")
    return SHAPES[shape_name]


def random_matrix(type_name: str, n_out: int, n_in: int, rng: np.random.Generator) -> np.ndarray:
    """File bytes of a matrix that keeps activations at their size, uint8 [n_out * row_bytes]."""
    n_fresh = min(n_out, MAX_FRESH_ROWS)
    fresh = random_weight(type_name, n_fresh, n_in, rng, deviation=n_in**-0.5).reshape(n_fresh, -1)
    return np.resize(fresh, (n_out, fresh.shape[1])).reshape(-1)


class RandomWeights:
    """A WeightSource of random numbers, matrix by matrix: the peak is the model and its largest matrix."""

    def __init__(
        self, ops: Ops, type_name: str, vocab_type: str, n_layer: int, progress: Progress | None = None
    ) -> None:
        self.bytes_held = 0
        self.file_bytes = 0  # what a file of these weights would hold
        self._ops = ops
        self._type_name = type_name
        self._vocab_type = vocab_type
        self._rng = np.random.default_rng(0)
        self._progress = progress
        self._n_matrices = len(VOCAB_MATRICES) + 7 * n_layer
        self._n_done = 0

    def has(self, name: str) -> bool:
        return name in VOCAB_MATRICES

    def matrix(self, name: str, n_out: int, n_in: int, uses: frozenset[str] = LINEAR) -> QuantTensor:
        type_name = self._vocab_type if name in VOCAB_MATRICES else self._type_name
        data = random_matrix(type_name, n_out, n_in, self._rng)
        weight = self._ops.load_quant(type_name, (n_out, n_in), data, uses)
        self.bytes_held += weight.nbytes
        self.file_bytes += data.nbytes
        self._n_done += 1
        if self._progress is not None:  # the bytes to come are judged by the matrices to come
            self._progress(self.file_bytes, self.file_bytes * self._n_matrices // self._n_done)
        return weight

    def vector(self, name: str, n: int) -> Array:
        return self.to_device(self.host_vector(name, n))

    def optional_vector(self, name: str, n: int) -> None:
        return None

    def host_vector(self, name: str, n: int) -> np.ndarray:
        """Norm weights: the only vectors a synthetic model has."""
        return np.ones(n, np.float32)

    def to_device(self, values: np.ndarray) -> Array:
        self.bytes_held += values.nbytes
        self.file_bytes += values.nbytes
        return self._ops.load_vector(values)
