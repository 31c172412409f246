"""A model of random weights, made in memory: the speed of a shape and type without a file of them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engine.errors import EspalierError
from engine.loading import LoadedModel
from engine.loading.model_config import ModelConfig, RopeConfig
from engine.loading.weights import Progress
from engine.models.llama import build_llama
from engine.models.weight_source import LINEAR
from kernels.ops import Array, Ops
from kernels.quant_tensor import TYPES, QuantTensor
from kernels.random_weights import random_weight

TILE_BYTES = 8 << 20  # of random bytes; a larger matrix repeats them


@dataclass(frozen=True)
class Shape:
    """A model's shape, and the type of its embedding and output matrices."""

    config: ModelConfig
    ends: str


def _llama(
    n_layer: int, n_embd: int, n_head: int, n_head_kv: int, n_ff: int, n_vocab: int, n_ctx: int
) -> ModelConfig:
    head_dim = n_embd // n_head
    return ModelConfig(
        architecture="llama", n_layer=n_layer, n_embd=n_embd, n_head=n_head, n_head_kv=n_head_kv,
        head_dim=head_dim, n_ff=n_ff, n_vocab=n_vocab, n_ctx_train=n_ctx, rms_eps=1e-5,
        rope=RopeConfig(n_rot=head_dim),
    )  # fmt: skip


SHAPES = {
    "llama-0.85b": Shape(_llama(16, 2048, 32, 8, 5632, 32000, 4096), "Q8_0"),
    "llama-3.1-8b": Shape(_llama(32, 4096, 32, 8, 14336, 128256, 8192), "Q6_K"),
}


class RandomWeights:
    """The WeightSource of a synthetic model."""

    def __init__(self, shape: Shape, type_name: str, ops: Ops, progress: Progress | None) -> None:
        self._shape, self._type_name, self._ops = shape, type_name, ops
        self._progress = progress or (lambda done, total: None)
        self._rng = np.random.default_rng(0)
        self._made = 0
        self.weight_bytes = self.file_bytes = 0

    def has(self, name: str) -> bool:
        return name == "output.weight"

    def matrix(self, name: str, n_out: int, n_in: int, uses: frozenset[str] = LINEAR) -> QuantTensor:
        at_an_end = name in ("token_embd.weight", "output.weight")
        quant_type = TYPES[self._shape.ends if at_an_end else self._type_name]
        row_bytes = quant_type.row_bytes(n_in)
        n_made = min(n_out, max(TILE_BYTES // row_bytes, 1))
        rows = random_weight(quant_type.name, n_made, n_in, self._rng, deviation=n_in**-0.5).reshape(
            n_made, -1
        )
        data = np.resize(rows, (n_out, row_bytes)).reshape(-1)
        tensor = self._ops.load_quant(quant_type.name, (n_out, n_in), data, uses)
        self.weight_bytes += tensor.nbytes
        self.file_bytes += n_out * row_bytes
        self._made += 1
        self._progress(self._made, 7 * self._shape.config.n_layer + 2)
        return tensor

    def vector(self, name: str, n: int) -> Array:
        return self._ops.load_vector(np.ones(n, np.float32))

    def optional_vector(self, name: str, n: int) -> None:
        return None

    def host_vector(self, name: str, n: int) -> np.ndarray:
        return np.ones(n, np.float32)

    def to_device(self, values: np.ndarray) -> Array:
        return self._ops.load_vector(values)


def synthetic_model(
    shape_name: str, type_name: str, ops: Ops, progress: Progress | None = None
) -> LoadedModel:
    """A model of SHAPES[shape_name] with matrices of type_name. Raises EspalierError for an unknown name."""
    if shape_name not in SHAPES:
        raise EspalierError(f"no shape {shape_name!r}; there are {', '.join(SHAPES)}")
    if type_name not in TYPES:
        raise EspalierError(f"no type {type_name!r}; this build has {', '.join(TYPES)}")
    shape = SHAPES[shape_name]
    weights = RandomWeights(shape, type_name, ops, progress)
    model = build_llama(shape.config, weights)
    return LoadedModel(
        path=Path(shape_name), name=f"{shape_name}-{type_name}", config=shape.config, model=model, tokenizer=None,
        chat_template=None, ops=ops, weight_bytes=weights.weight_bytes, file_bytes=weights.file_bytes,
        type_names=(type_name, shape.ends),
    )  # fmt: skip
