"""Models of random weights, made in memory: what a benchmark needs of a model is its shape and its types."""

import fnmatch
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from engine.loading.gguf_index import Metadata
from engine.loading.weight_plan import without_numbers
from engine.loading.weights import Progress, load_part
from engine.metadata_reader import MetadataReader
from engine.models import ARCHITECTURES, build_model
from engine.models.config import ModelConfig
from engine.models.weight_source import Part, WeightSource
from engine.quantization.gguf_writer import PlannedTensor
from kernels.batches import Array
from kernels.ops import Ops
from kernels.quant_tensor import TYPES
from kernels.random_weights import random_weight

MAX_FRESH_ROWS = 256  # a larger matrix repeats them: making gigabytes of random numbers would take minutes
VOCAB_MATRICES = ("token_embd.weight", "output.weight")
#: Matrices that quantizers leave as they are.
FLOAT_MATRICES = ("*.ffn_gate_inp.weight", "*.ffn_gate_inp_shexp.weight")
#: What rows are that the model's type cannot hold.
NARROW_TYPE = "Q8_0"


class SyntheticShape(NamedTuple):
    """A model's metadata keys, without its architecture's prefix, and the type of its two vocabulary matrices.

    optional: name patterns of tensors that a file of the architecture may have and this model has.
    """

    architecture: str
    keys: Mapping[str, Any]
    vocab_type: str
    optional: tuple[str, ...] = ()

    @property
    def config(self) -> ModelConfig:
        metadata = Metadata()
        metadata.update({f"{self.architecture}.{name}": value for name, value in self.keys.items()})
        metadata.position_of.update(dict.fromkeys(metadata, 0))
        reader = MetadataReader(Path("synthetic"), metadata, f"{self.architecture}.")
        config: ModelConfig = ARCHITECTURES[self.architecture].read_config(reader)
        return config


def dense_keys(
    n_layer: int,
    n_embd: int,
    n_head: int,
    n_head_kv: int,
    head_dim: int,
    n_ff: int,
    n_vocab: int,
    n_ctx: int,
    rms_eps: float = 1e-5,
    freq_base: float = 10000.0,
) -> dict[str, Any]:
    """The keys that every architecture has."""
    return {
        "block_count": n_layer,
        "context_length": n_ctx,
        "embedding_length": n_embd,
        "feed_forward_length": n_ff,
        "attention.head_count": n_head,
        "attention.head_count_kv": n_head_kv,
        "attention.key_length": head_dim,
        "attention.value_length": head_dim,
        "attention.layer_norm_rms_epsilon": rms_eps,
        "rope.freq_base": freq_base,
        "vocab_size": n_vocab,
    }


SHAPES = {
    "llama-0.85b": SyntheticShape("llama", dense_keys(16, 2048, 32, 8, 64, 5632, 32000, 16384), "Q8_0"),
    "llama-3.1-8b": SyntheticShape(
        "llama", dense_keys(32, 4096, 32, 8, 128, 14336, 128256, 131072, freq_base=500000.0), "Q6_K"
    ),
    "qwen3-30b-a3b": SyntheticShape(
        "qwen3moe",
        dense_keys(48, 2048, 32, 4, 128, 6144, 151936, 40960, rms_eps=1e-6, freq_base=1e6)
        | {"expert_count": 128, "expert_used_count": 8, "expert_feed_forward_length": 768},
        "Q8_0",
    ),
    "qwen3.5-35b-a3b": SyntheticShape(
        "qwen35moe",
        dense_keys(40, 2048, 16, 2, 256, 0, 248320, 262144, rms_eps=1e-6, freq_base=1e7)
        | {
            "rope.dimension_count": 64,
            "full_attention_interval": 4,
            "ssm.conv_kernel": 4,
            "ssm.state_size": 128,
            "ssm.group_count": 16,
            "ssm.time_step_rank": 32,
            "ssm.inner_size": 4096,
            "expert_count": 256,
            "expert_used_count": 8,
            "expert_feed_forward_length": 512,
            "expert_shared_feed_forward_length": 512,
        },
        "Q8_0",
    ),
    "glm-4.7-flash": SyntheticShape(
        "deepseek2",
        dense_keys(47, 2048, 20, 1, 576, 10240, 154880, 202752, freq_base=1e6)
        | {
            "attention.value_length": 512,
            "attention.key_length_mla": 256,
            "attention.value_length_mla": 256,
            "attention.q_lora_rank": 768,
            "attention.kv_lora_rank": 512,
            "rope.dimension_count": 64,
            "leading_dense_block_count": 1,
            "expert_count": 64,
            "expert_used_count": 4,
            "expert_feed_forward_length": 1536,
            "expert_shared_count": 1,
            "expert_weights_norm": True,
            "expert_weights_scale": 1.8,
        },
        "Q8_0",
        optional=("blk.*.exp_probs_b.bias",),
    ),
}


def find_shape(shape_name: str, type_name: str) -> SyntheticShape:
    """shape_name: of SHAPES, or NAME:LAYERS for that shape with fewer layers.

    Raises ValueError, with what there is, for a shape or a type this build does not have.
    """
    name, _, n_layers = shape_name.partition(":")
    if name not in SHAPES:
        raise ValueError(f"no synthetic shape named {name!r}; there are {', '.join(SHAPES)}")
    if type_name not in TYPES:
        raise ValueError(f"no type named {type_name!r}; there are {', '.join(TYPES)}")
    shape = SHAPES[name]
    return shape if not n_layers else _with_layers(shape, n_layers)


def _with_layers(shape: SyntheticShape, n_layers: str) -> SyntheticShape:
    most = shape.keys["block_count"]
    if not (n_layers.isascii() and n_layers.isdigit() and 1 <= int(n_layers) <= most):
        raise ValueError(f"{n_layers!r} layers; 1 to {most} are possible")
    return shape._replace(keys={**shape.keys, "block_count": int(n_layers)})


def random_matrix(type_name: str, n_out: int, n_in: int, rng: np.random.Generator) -> np.ndarray:
    """File bytes of a matrix that keeps activations at their size, uint8 [n_out * row_bytes]."""
    n_fresh = min(n_out, MAX_FRESH_ROWS)
    fresh = random_weight(type_name, n_fresh, n_in, rng, deviation=n_in**-0.5).reshape(n_fresh, -1)
    return np.resize(fresh, (n_out, fresh.shape[1])).reshape(-1)


class SyntheticPlan(WeightSource):
    """Notes which tensors a builder asks for, in order, and loads nothing."""

    def __init__(self, shape: SyntheticShape, type_name: str) -> None:
        self.tensors: list[PlannedTensor] = []
        self._shape = shape
        self._type_name = type_name
        self._rng = np.random.default_rng(0)

    def has(self, name: str) -> bool:
        return name in VOCAB_MATRICES or _matches(name, self._shape.optional)

    def parts(self, name: str, shape: tuple[int, ...], parts: Sequence[Part]) -> list[Any]:
        tensor = self._matrix(name, shape)
        return [without_numbers(TYPES[tensor.type_name], part) for part in parts]

    def host_floats(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """Ones, as norms have them, or what an exception below says."""
        values = np.full(shape[::-1], 1.0, np.float32)
        if name.endswith("ssm_a"):
            values = -values  # a decay
        elif name.endswith("exp_probs_b.bias"):
            values = np.zeros_like(values)
        self.tensors.append(PlannedTensor(name, "F32", shape, lambda: values.reshape(-1).view(np.uint8)))
        return values

    def to_device(self, values: np.ndarray, name: str = "") -> Array:
        return values

    def _matrix(self, name: str, shape: tuple[int, ...]) -> PlannedTensor:
        type_name, n_in, n_rows = self._type_of(name, shape[0]), shape[0], int(np.prod(shape[1:]))
        make = lambda: random_matrix(type_name, n_rows, n_in, self._rng)  # noqa: E731
        self.tensors.append(PlannedTensor(name, type_name, shape, make))
        return self.tensors[-1]

    def _type_of(self, name: str, n_in: int) -> str:
        if name in VOCAB_MATRICES:
            return self._shape.vocab_type
        if _matches(name, FLOAT_MATRICES):
            return "F32"
        return NARROW_TYPE if n_in % TYPES[self._type_name].row_multiple else self._type_name


class RandomWeights(SyntheticPlan):
    """The same on a backend, tensor by tensor: the peak is the model and its largest tensor."""

    def __init__(
        self, ops: Ops, shape: SyntheticShape, type_name: str, progress: Progress | None = None
    ) -> None:
        super().__init__(shape, type_name)
        self.bytes_held = 0
        self.file_bytes = 0  # what a file of these weights would hold
        self._ops = ops
        self._progress = progress
        plan = SyntheticPlan(shape, type_name)
        build_model(shape.config, plan)
        self._bytes_in_all = sum(tensor.nbytes for tensor in plan.tensors)

    def parts(self, name: str, shape: tuple[int, ...], parts: Sequence[Part]) -> list[Any]:
        tensor = self._matrix(name, shape)
        data, n_rows = tensor.make(), int(np.prod(shape[1:]))
        weights = [load_part(self._ops, TYPES[tensor.type_name], data, n_rows, part) for part in parts]
        self._done(sum(weight.nbytes for weight in weights), data.nbytes)
        return weights

    def to_device(self, values: np.ndarray, name: str = "") -> Array:
        self._done(values.nbytes, values.nbytes)
        return self._ops.load_vector(values)

    def _done(self, n_held: int, n_in_file: int) -> None:
        self.bytes_held += n_held
        self.file_bytes += n_in_file
        if self._progress is not None:
            self._progress(min(self.file_bytes, self._bytes_in_all), self._bytes_in_all)


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
