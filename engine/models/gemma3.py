"""Gemma 3: five layers that see a window to one that sees all, each with a rope of its own, norms before and after.

Activations are kept divided by sqrt(n_embd), by which Gemma multiplies its embedding rows: what a layer adds is a
norm's result, whose weights are divided at load, and a norm's result does not depend on the scale of its input.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from engine.batch import Batch
from engine.metadata_reader import MetadataReader
from engine.models.attention import GroupedQueryAttention, build_attention
from engine.models.config import ModelConfig, RopeConfig, base_fields
from engine.models.parts import build_token_matrices
from engine.models.rope import Rope, build_rope, rope_freqs
from engine.models.weight_source import WeightSource
from kernels.batches import Array, LayerCache
from kernels.cache_groups import CacheGroup, PagedGroup
from kernels.ops import Ops
from kernels.quant_tensor import QuantTensor

LAYERS_OF_27B = 62
MAX_PERIOD = 1 << 16


@dataclass(frozen=True, kw_only=True)
class Gemma3Config(ModelConfig):
    window: int  # tokens that a windowed layer sees, a token itself included
    period: int  # every so many layers the last sees all
    local_freq_base: float  # of the windowed layers' rope, which is never stretched

    @property
    def embedding_scale(self) -> float:
        return self.n_embd**0.5

    @property
    def stream_eps(self) -> float:
        """rms_eps for activations that are divided by embedding_scale."""
        return self.rms_eps / self.n_embd

    @property
    def score_scale(self) -> float:
        """Of attention: that of the head's width, in the largest model alone of n_embd / n_head."""
        width = self.n_embd / self.n_head if self.n_layer == LAYERS_OF_27B else self.head_dim
        return float(width**-0.5)

    def sees_all(self, i: int) -> bool:
        return (i + 1) % self.period == 0


@dataclass(frozen=True)
class Gemma3Layer:
    """One transformer block's weights; GGUF names without the `blk.{i}.` prefix."""

    sees_all: bool
    attn_norm: Array  # [n_embd]
    attention: GroupedQueryAttention
    post_attention_norm: Array  # [n_embd], divided
    ffn_norm: Array  # [n_embd]
    ffn_gate: QuantTensor  # [n_ff, n_embd]
    ffn_up: QuantTensor  # [n_ff, n_embd]
    ffn_down: QuantTensor  # [n_embd, n_ff]
    post_ffw_norm: Array  # [n_embd], divided


@dataclass(frozen=True)
class Gemma3:
    config: Gemma3Config
    token_embd: QuantTensor  # [n_vocab, n_embd]
    layers: tuple[Gemma3Layer, ...]
    output_norm: Array  # [n_embd]
    output: QuantTensor  # [n_vocab, n_embd]
    rope: Rope
    local_rope: Rope

    def cache_groups(self) -> tuple[CacheGroup, ...]:
        """The windowed layers', then those of the layers that see all."""
        cfg = self.config
        n_full = sum(layer.sees_all for layer in self.layers)
        windowed = PagedGroup(len(self.layers) - n_full, cfg.n_head_kv, cfg.head_dim, cfg.window)
        return windowed, PagedGroup(n_full, cfg.n_head_kv, cfg.head_dim)

    def forward(self, ops: Ops, batch: Batch, caches: Sequence[Sequence[LayerCache]]) -> Array:
        cfg = self.config
        everywhere, nearby = (
            ops.rope_angles(batch.positions, rope.freqs, rope.mscale) for rope in (self.rope, self.local_rope)
        )
        of_window, of_all = map(iter, caches)
        x = ops.embed(self.token_embd, batch.token_ids)  # [n_tokens, n_embd]
        for layer in self.layers:
            normed = ops.rms_norm(x, layer.attn_norm, cfg.stream_eps)
            angles, cache = (everywhere, next(of_all)) if layer.sees_all else (nearby, next(of_window))
            heads = layer.attention.heads(ops, normed, angles=angles, batch=batch, cache=cache)
            attended = ops.linear(heads, layer.attention.attn_output)
            x = ops.add(x, ops.rms_norm(attended, layer.post_attention_norm, cfg.rms_eps))
            fed = self._feed_forward(ops, layer, ops.rms_norm(x, layer.ffn_norm, cfg.stream_eps))
            x = ops.add(x, ops.rms_norm(fed, layer.post_ffw_norm, cfg.rms_eps))
        return ops.rms_norm(ops.take_rows(x, batch.hidden_rows), self.output_norm, cfg.stream_eps)

    def logits(self, ops: Ops, hidden: Array) -> Array:
        return ops.linear(hidden, self.output)

    @staticmethod
    def _feed_forward(ops: Ops, layer: Gemma3Layer, x: Array) -> Array:
        gate, up = ops.linear_many(x, [layer.ffn_gate, layer.ffn_up])
        return ops.linear(ops.gelu_mul(gate, up), layer.ffn_down)


def read_config(keys: MetadataReader) -> Gemma3Config:
    base = base_fields(keys) | {"sliding_window": None}  # of some layers: a context may be longer
    return Gemma3Config(
        **base,
        window=keys.integer("attention.sliding_window", 1, 1 << 30),
        period=keys.integer("attention.sliding_window_pattern", 1, MAX_PERIOD, default=6),
        local_freq_base=keys.number("rope.freq_base_swa", 1.0001, 1e12, default=10000.0),
    )


def build(config: Gemma3Config, weights: WeightSource) -> Gemma3:
    """Raises ModelFileError for a missing tensor or a shape that the hyperparameters do not give."""
    token_embd, output = build_token_matrices(config, weights)
    local = RopeConfig(n_rot=config.rope.n_rot, freq_base=config.local_freq_base)
    rope = build_rope(config.rope, weights)
    return Gemma3(
        config=config,
        token_embd=token_embd,
        layers=tuple(_build_layer(config, weights, i) for i in range(config.n_layer)),
        output_norm=weights.vector("output_norm.weight", config.n_embd),
        output=output,
        rope=rope,
        local_rope=replace(rope, freqs=weights.to_device(rope_freqs(local)), mscale=1.0),
    )


def _build_layer(config: Gemma3Config, weights: WeightSource, i: int) -> Gemma3Layer:
    prefix, n_embd, n_ff = f"blk.{i}.", config.n_embd, config.n_ff

    def divided(name: str) -> Array:
        values = weights.host_vector(prefix + name, n_embd)
        return weights.to_device((values / config.embedding_scale).astype(values.dtype))

    return Gemma3Layer(
        sees_all=config.sees_all(i),
        attn_norm=weights.vector(prefix + "attn_norm.weight", n_embd),
        attention=build_attention(
            config,
            weights,
            i,
            head_norms="required",
            scale=config.score_scale,
            window=None if config.sees_all(i) else config.window,
        ),
        post_attention_norm=divided("post_attention_norm.weight"),
        ffn_norm=weights.vector(prefix + "ffn_norm.weight", n_embd),
        ffn_gate=weights.matrix(prefix + "ffn_gate.weight", n_ff, n_embd),
        ffn_up=weights.matrix(prefix + "ffn_up.weight", n_ff, n_embd),
        ffn_down=weights.matrix(prefix + "ffn_down.weight", n_embd, n_ff),
        post_ffw_norm=divided("post_ffw_norm.weight"),
    )
