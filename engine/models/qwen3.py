"""Qwen3, dense: as qwen2, with an RMS norm on every query and key head in place of the biases.

head_dim is a key of its own (`attention.key_length`): the heads together may be wider than n_embd.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.batch import Batch
from engine.models.parts import FeedForward, build_feed_forward, build_token_matrices
from engine.models.rope import Rope, build_rope
from engine.models.weight_source import WeightSource
from kernels.ops import Array, LayerCache, Ops, Rotation
from kernels.quant_tensor import QuantTensor

if TYPE_CHECKING:
    from engine.loading.model_config import ModelConfig


@dataclass(frozen=True)
class Qwen3Layer:
    """One transformer block's weights; GGUF names without the `blk.{i}.` prefix."""

    attn_norm: Array  # [n_embd]
    attn_q: QuantTensor  # [n_head * head_dim, n_embd]
    attn_k: QuantTensor  # [n_head_kv * head_dim, n_embd]
    attn_v: QuantTensor  # [n_head_kv * head_dim, n_embd]
    attn_output: QuantTensor  # [n_embd, n_head * head_dim]
    attn_q_norm: Array  # [head_dim]
    attn_k_norm: Array  # [head_dim]
    ffn_norm: Array  # [n_embd]
    ffn: FeedForward


@dataclass(frozen=True)
class Qwen3Model:
    """The whole network. It never sees a request, nor how its weights are stored."""

    config: "ModelConfig"
    token_embd: QuantTensor  # [n_vocab, n_embd]
    layers: tuple[Qwen3Layer, ...]
    output_norm: Array  # [n_embd]
    output: QuantTensor  # [n_vocab, n_embd]
    rope: Rope

    def forward(self, ops: Ops, batch: Batch, kv: list[LayerCache]) -> Array:
        """Normed hidden states of the batch's `hidden_rows`: [n_rows, n_embd]."""
        eps = self.config.rms_eps
        angles = ops.rope_angles(batch.positions, self.rope.freqs, self.rope.mscale)
        x = ops.embed(self.token_embd, batch.token_ids)  # [n_tokens, n_embd]
        for layer, cache in zip(self.layers, kv, strict=True):
            normed = ops.rms_norm(x, layer.attn_norm, eps)
            heads = self._attention(ops, layer, normed, angles=angles, batch=batch, cache=cache)
            x = ops.linear_add(heads, layer.attn_output, residual=x)
            x = layer.ffn.forward(ops, ops.rms_norm(x, layer.ffn_norm, eps), residual=x)
        return ops.rms_norm(ops.take_rows(x, batch.hidden_rows), self.output_norm, eps)

    def logits(self, ops: Ops, hidden: Array) -> Array:
        """[n_rows, n_embd] -> [n_rows, n_vocab]; only rows someone reads reach the largest matrix."""
        return ops.linear(hidden, self.output)

    def _attention(
        self, ops: Ops, layer: Qwen3Layer, x: Array, *, angles: Array, batch: Batch, cache: LayerCache
    ) -> Array:
        cfg = self.config
        q, k, v = ops.linear_many(x, [layer.attn_q, layer.attn_k, layer.attn_v])
        q = q.reshape(batch.n_tokens, cfg.n_head, cfg.head_dim)
        k = k.reshape(batch.n_tokens, cfg.n_head_kv, cfg.head_dim)
        v = v.reshape(batch.n_tokens, cfg.n_head_kv, cfg.head_dim)
        q = ops.rms_norm(q, layer.attn_q_norm, cfg.rms_eps)  # each head on its own
        k = ops.rms_norm(k, layer.attn_k_norm, cfg.rms_eps)
        q = ops.rope_and_store(q, k, v, Rotation(angles, interleaved=False), cache, batch.slots)
        out = ops.attention(q, cache, batch.attention, scale=cfg.head_dim**-0.5)
        return out.reshape(batch.n_tokens, cfg.n_head * cfg.head_dim)


def build_qwen3(config: "ModelConfig", weights: WeightSource) -> Qwen3Model:
    """Raises ModelFileError for a missing tensor or a shape that the hyperparameters do not give."""
    token_embd, output = build_token_matrices(config, weights)
    return Qwen3Model(
        config=config,
        token_embd=token_embd,
        layers=tuple(_build_layer(config, weights, f"blk.{i}.") for i in range(config.n_layer)),
        output_norm=weights.vector("output_norm.weight", config.n_embd),
        output=output,
        rope=build_rope(config.rope, weights),
    )


def _build_layer(config: "ModelConfig", weights: WeightSource, prefix: str) -> Qwen3Layer:
    n_embd = config.n_embd
    n_q, n_kv = config.n_head * config.head_dim, config.n_head_kv * config.head_dim
    return Qwen3Layer(
        attn_norm=weights.vector(prefix + "attn_norm.weight", n_embd),
        attn_q=weights.matrix(prefix + "attn_q.weight", n_q, n_embd),
        attn_k=weights.matrix(prefix + "attn_k.weight", n_kv, n_embd),
        attn_v=weights.matrix(prefix + "attn_v.weight", n_kv, n_embd),
        attn_output=weights.matrix(prefix + "attn_output.weight", n_embd, n_q),
        attn_q_norm=weights.vector(prefix + "attn_q_norm.weight", config.head_dim),
        attn_k_norm=weights.vector(prefix + "attn_k_norm.weight", config.head_dim),
        ffn_norm=weights.vector(prefix + "ffn_norm.weight", n_embd),
        ffn=build_feed_forward(config, weights, prefix),
    )
