"""What the shapes and the forward pass of a model follow from, and the keys that every architecture here has.

Each architecture reads its own keys (`read_config` in its file), most of them through `base_fields`.
"""

from dataclasses import dataclass
from typing import Any, Literal

from engine.metadata_reader import MetadataReader
from engine.pooling import Pooling
from kernels.ops import Ops

MAX_LAYERS = 1024
MAX_WIDTH = 1 << 20  # n_embd and n_ff
MAX_HEADS = 4096
MAX_HEAD_DIM = 1024
MAX_CONTEXT = 1 << 30  # positions are int32
MAX_VOCAB = 1 << 24
#: {arch}.pooling_type -> its name. 0 says nothing, 4 asks for a head that ranks, which no architecture here has.
_POOLING_TYPES: dict[int, Pooling] = {1: "mean", 2: "cls", 3: "last"}
ROPE_SCALINGS = ("none", "linear", "yarn")


@dataclass(frozen=True)
class RopeConfig:
    """Rotary position embedding. factor stretches positions: 1 for none."""

    n_rot: int  # values rotated in each head, even
    freq_base: float = 10000.0
    scaling: Literal["none", "linear", "yarn"] = "none"
    factor: float = 1.0
    original_context: int = 0  # tokens; what the model was trained with before stretching (yarn)
    attn_factor: float = 1.0
    ext_factor: float = 1.0  # how much of the yarn ramp is applied
    beta_fast: float = 32.0  # turns over the original context above which a dimension is left alone
    beta_slow: float = 1.0  # ... and below which it is fully stretched


@dataclass(frozen=True)
class ModelConfig:
    """What every architecture has; those that need more derive from it. Names as in GGUF."""

    architecture: str
    n_layer: int  # that a forward pass computes
    n_embd: int
    n_head: int
    n_head_kv: int
    head_dim: int
    n_ff: int  # of the dense feed-forward networks; 0 where all are mixtures of experts
    n_vocab: int
    n_ctx_train: int
    rms_eps: float
    rope: RopeConfig
    sliding_window: int | None = None  # positions a token may attend to, its own included; None for all
    pooling: Pooling | None = None  # how embeddings are made of hidden states, where the file says it
    n_extra_layers: int = 0  # in the file after the n_layer ones, for predicting further tokens (MTP)

    @property
    def n_ctx_max(self) -> int:
        """The longest sequence computed as trained: attention is full, and within the window that is the same."""
        return min(self.n_ctx_train, self.sliding_window or self.n_ctx_train)

    def on(self, ops: Ops) -> "ModelConfig":
        """What a backend runs of the model: less where it lacks an operation that only long contexts need."""
        return self

    @property
    def context_limit(self) -> str:
        """What makes n_ctx_max less than n_ctx_train."""
        return "a sliding window"


def read_dense_config(keys: MetadataReader) -> ModelConfig:
    """The config of an architecture that has the common keys and no others."""
    return ModelConfig(**base_fields(keys))


def base_fields(
    keys: MetadataReader,
    *,
    predicts_further: bool = False,
    n_ff: int | None = None,
    head_dim: int | None = None,
) -> dict[str, Any]:
    """The fields of ModelConfig, for it and for what derives from it.

    predicts_further: the last of block_count may be MTP layers. n_ff: for a missing feed_forward_length.
    head_dim: None where the file's key_length gives it, and its value_length is the same.
    Raises ModelFileError naming the key and its value.
    """
    n_embd = keys.integer("embedding_length", 1, MAX_WIDTH)
    n_extra_layers = keys.integer("nextn_predict_layers", 0, 64, default=0) if predicts_further else 0
    n_blocks = keys.integer("block_count", 1 + n_extra_layers, MAX_LAYERS)
    n_head = keys.integer_of_layers("attention.head_count", n_blocks, 1, MAX_HEADS)
    head_dim = _head_dim(keys, n_embd, n_head) if head_dim is None else head_dim
    n_ctx_train = keys.integer("context_length", 1, MAX_CONTEXT)
    least_ff = 1 if n_ff is None else 0
    return {
        "architecture": keys.prefix.removesuffix("."),
        "n_layer": n_blocks - n_extra_layers,
        "n_embd": n_embd,
        "n_head": n_head,
        "n_head_kv": _n_head_kv(keys, n_blocks, n_head),
        "head_dim": head_dim,
        "n_ff": keys.integer_of_layers("feed_forward_length", n_blocks, least_ff, MAX_WIDTH, default=n_ff),
        "n_vocab": _n_vocab(keys),
        "n_ctx_train": n_ctx_train,
        "rms_eps": keys.number("attention.layer_norm_rms_epsilon", 0.0, 1.0),
        "rope": read_rope(keys, head_dim, n_ctx_train),
        "sliding_window": keys.integer("attention.sliding_window", 0, 1 << 32, default=0) or None,
        "pooling": _POOLING_TYPES.get(keys.integer("pooling_type", 0, 4, default=0)),
        "n_extra_layers": n_extra_layers,
    }


def extra_layers(config: ModelConfig) -> dict[str, str]:
    """Name patterns of the MTP layers' tensors, as `Architecture.skipped` gives them."""
    layers = range(config.n_layer, config.n_layer + config.n_extra_layers)
    return {f"blk.{i}.*": "a layer for predicting further tokens (MTP)" for i in layers}


def _head_dim(keys: MetadataReader, n_embd: int, n_head: int) -> int:
    if not keys.has("attention.key_length") and n_embd % n_head:
        raise keys.error("attention.head_count", f"a divisor of embedding_length {n_embd} is needed")
    head_dim = keys.integer("attention.key_length", 2, MAX_HEAD_DIM, default=n_embd // n_head)
    if keys.integer("attention.value_length", 1, MAX_HEAD_DIM, default=head_dim) != head_dim:
        raise keys.error("attention.value_length", f"the key length {head_dim} is needed")
    return head_dim


def _n_head_kv(keys: MetadataReader, n_layer: int, n_head: int) -> int:
    n_head_kv = keys.integer_of_layers("attention.head_count_kv", n_layer, 1, n_head, default=n_head)
    if n_head % n_head_kv:
        raise keys.error("attention.head_count_kv", f"a divisor of head_count {n_head} is needed")
    return n_head_kv


def _n_vocab(keys: MetadataReader) -> int:
    """The number of tokens; where the file states it twice, the two must agree."""
    n_vocab = keys.integer("vocab_size", 1, MAX_VOCAB, default=keys.n_tokens)
    if keys.n_tokens is not None and n_vocab != keys.n_tokens:
        raise keys.error("vocab_size", f"the file has {keys.n_tokens} tokens")
    return n_vocab


def read_rope(keys: MetadataReader, head_dim: int, n_ctx_train: int) -> RopeConfig:
    n_rot = keys.integer("rope.dimension_count", 2, head_dim, default=head_dim)
    if n_rot % 2:
        raise keys.error("rope.dimension_count", "an even number is needed")
    # Files of 2023 give a linear factor alone, under its first name.
    legacy = keys.number("rope.scale_linear", 1e-6, 1e6, default=1.0)
    factor = keys.number("rope.scaling.factor", 0.0, 1e6, default=legacy) or 1.0  # 0 is written for "none"
    scaling = keys.text("rope.scaling.type", ROPE_SCALINGS, "none" if factor == 1.0 else "linear")
    original = keys.integer("rope.scaling.original_context_length", 1, MAX_CONTEXT, default=n_ctx_train)
    return RopeConfig(
        n_rot=n_rot,
        freq_base=keys.number("rope.freq_base", 1.0001, 1e12, default=10000.0),
        scaling=scaling,  # type: ignore[arg-type]  # text() returns one of ROPE_SCALINGS
        factor=1.0 if scaling == "none" else factor,
        original_context=original,
        attn_factor=keys.number("rope.scaling.attn_factor", 1e-3, 1e3, default=1.0),
        ext_factor=keys.number("rope.scaling.yarn_ext_factor", 0.0, 1.0, default=1.0),
        beta_fast=keys.number("rope.scaling.yarn_beta_fast", 1e-3, 1e6, default=32.0),
        beta_slow=keys.number("rope.scaling.yarn_beta_slow", 1e-3, 1e6, default=1.0),
    )
