"""A model's hyperparameters, from GGUF metadata, each within bounds that keep later arithmetic sane."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from engine.errors import ModelFileError
from engine.loading.byte_reader import shown
from engine.loading.file_kinds import refuse_other_kinds
from engine.loading.gguf_file import GGUFFile
from engine.loading.metadata_reader import MetadataReader
from engine.models import ARCHITECTURES

MAX_LAYERS = 1024
MAX_WIDTH = 1 << 20  # n_embd and n_ff
MAX_HEADS = 4096
MAX_HEAD_DIM = 1024
MAX_CONTEXT = 1 << 30  # positions are int32
MAX_VOCAB = 1 << 24
ROPE_SCALINGS = ("none", "linear", "yarn")
#: Keys that change what a model computes and that no architecture here honours: name -> (the values that ask
#: for nothing, what any other asks for). 0 is written for a scale that is not set.
_REFUSED: dict[str, tuple[tuple[float, ...], str]] = {
    "expert_count": ((0,), "a mixture of experts"),
    "attention.causal": ((1,), "attention to later tokens"),
    "attention.clamp_kqv": ((0,), "clamped queries, keys and values"),
    "attention.max_alibi_bias": ((0,), "ALiBi positions"),
    "attention.scale": ((0,), "another scale of attention scores"),
    "attention.temperature_length": ((0,), "attention scores scaled by position"),
    "attention.temperature_scale": ((0,), "attention scores scaled by position"),
    "attn_logit_softcapping": ((0,), "soft-capped attention scores"),
    "final_logit_softcapping": ((0,), "soft-capped logits"),
    "embedding_scale": ((0, 1), "scaled embeddings"),
    "residual_scale": ((0, 1), "scaled residuals"),
    "logit_scale": ((0, 1), "scaled logits"),
    "rope.scaling.yarn_attn_factor": ((0, 1), "another yarn attention factor"),
    "rope.scaling.yarn_log_multiplier": ((0,), "another yarn attention factor"),
}


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
    """What the shapes and the forward pass follow from. Names as in GGUF."""

    architecture: str
    n_layer: int
    n_embd: int
    n_head: int
    n_head_kv: int
    head_dim: int
    n_ff: int
    n_vocab: int
    n_ctx_train: int
    rms_eps: float
    rope: RopeConfig
    sliding_window: int | None = None  # positions a token may attend to, its own included; None for all

    @property
    def n_ctx_max(self) -> int:
        """The longest sequence computed as trained: attention is full, and within the window that is the same."""
        return min(self.n_ctx_train, self.sliding_window or self.n_ctx_train)

    @classmethod
    def from_metadata(cls, gguf: GGUFFile) -> "ModelConfig":
        """Raises ModelFileError naming the key and its value, and for an architecture the known ones."""
        refuse_other_kinds(gguf)
        architecture = gguf.metadata.get("general.architecture")
        if not isinstance(architecture, str) or architecture not in ARCHITECTURES:
            found = "is missing" if architecture is None else f"is {shown(str(architecture))}"
            known = ", ".join(ARCHITECTURES)
            raise ModelFileError(f"{gguf.path}: key 'general.architecture' {found}; this build knows {known}")
        keys = MetadataReader(gguf.path, gguf.metadata, f"{architecture}.")
        _refuse_unknown_parts(keys)
        n_embd = keys.integer("embedding_length", 1, MAX_WIDTH)
        n_layer = keys.integer("block_count", 1, MAX_LAYERS)
        n_head = keys.integer_of_layers("attention.head_count", n_layer, 1, MAX_HEADS)
        head_dim = _head_dim(keys, n_embd, n_head)
        n_ctx_train = keys.integer("context_length", 1, MAX_CONTEXT)
        return cls(
            architecture=architecture,
            n_layer=n_layer,
            n_embd=n_embd,
            n_head=n_head,
            n_head_kv=_n_head_kv(keys, n_layer, n_head),
            head_dim=head_dim,
            n_ff=keys.integer_of_layers("feed_forward_length", n_layer, 1, MAX_WIDTH),
            n_vocab=_n_vocab(keys, gguf),
            n_ctx_train=n_ctx_train,
            rms_eps=keys.number("attention.layer_norm_rms_epsilon", 0.0, 1.0),
            rope=_rope(keys, head_dim, n_ctx_train),
            sliding_window=keys.integer("attention.sliding_window", 0, 1 << 32, default=0) or None,
        )


def _refuse_unknown_parts(keys: MetadataReader) -> None:
    for name, (neutral, meaning) in _REFUSED.items():
        value = keys.value(name)
        if value is not None and not (isinstance(value, int | float) and value in neutral):
            raise keys.error(name, f"that means {meaning}, which this build does not run")


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


def _n_vocab(keys: MetadataReader, gguf: GGUFFile) -> int:
    """The number of tokens; where the file states it twice, the two must agree."""
    tokens = gguf.metadata.get("tokenizer.ggml.tokens")
    embd = gguf.tensors.get("token_embd.weight")
    known = len(tokens) if isinstance(tokens, list | np.ndarray) else embd.shape[-1] if embd else None
    n_vocab = keys.integer("vocab_size", 1, MAX_VOCAB, default=known)
    if known is not None and n_vocab != known:
        raise keys.error("vocab_size", f"the file has {known} tokens")
    return n_vocab


def _rope(keys: MetadataReader, head_dim: int, n_ctx_train: int) -> RopeConfig:
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
