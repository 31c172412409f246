"""Llama 2 and 3 and their near relatives: pre-norm, grouped-query attention, gated SiLU FFN."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from engine.batch import Batch
from engine.errors import ModelFileError
from engine.models.rope import rope_freqs, rope_mscale
from engine.models.weight_source import EMBED, LINEAR, WeightSource
from kernels.ops import Array, LayerCache, Ops
from kernels.quant_tensor import QuantTensor

if TYPE_CHECKING:
    from engine.loading.model_config import ModelConfig


@dataclass(frozen=True)
class LlamaLayer:
    """One transformer block's weights; GGUF names without the `blk.{i}.` prefix. No bias: None."""

    attn_norm: Array  # [n_embd]
    attn_q: QuantTensor  # [n_head * head_dim, n_embd]
    attn_k: QuantTensor  # [n_head_kv * head_dim, n_embd]
    attn_v: QuantTensor  # [n_head_kv * head_dim, n_embd]
    attn_output: QuantTensor  # [n_embd, n_head * head_dim]
    attn_q_bias: Array | None
    attn_k_bias: Array | None
    attn_v_bias: Array | None
    attn_output_bias: Array | None
    ffn_norm: Array  # [n_embd]
    ffn_gate: QuantTensor  # [n_ff, n_embd]
    ffn_up: QuantTensor  # [n_ff, n_embd]
    ffn_down: QuantTensor  # [n_embd, n_ff]
    ffn_gate_bias: Array | None
    ffn_up_bias: Array | None
    ffn_down_bias: Array | None


@dataclass(frozen=True)
class LlamaModel:
    """The whole network. It never sees a request, nor how its weights are stored."""

    config: "ModelConfig"
    token_embd: QuantTensor  # [n_vocab, n_embd]
    layers: tuple[LlamaLayer, ...]
    output_norm: Array  # [n_embd]
    output: QuantTensor  # [n_vocab, n_embd]
    rope_freqs: Array  # [n_rot / 2]
    rope_mscale: float

    def forward(self, ops: Ops, batch: Batch, kv: list[LayerCache]) -> Array:
        """Normed hidden states of the batch's `hidden_rows`: [n_rows, n_embd]."""
        eps = self.config.rms_eps
        angles = ops.rope_angles(batch.positions, self.rope_freqs, self.rope_mscale)
        x = ops.embed(self.token_embd, batch.token_ids)  # [n_tokens, n_embd]
        for layer, cache in zip(self.layers, kv, strict=True):
            normed = ops.rms_norm(x, layer.attn_norm, eps)
            x = ops.add(x, self._attention(ops, layer, normed, angles=angles, batch=batch, cache=cache))
            normed = ops.rms_norm(x, layer.ffn_norm, eps)
            x = ops.add(x, _feed_forward(ops, layer, normed))
        return ops.rms_norm(ops.take_rows(x, batch.hidden_rows), self.output_norm, eps)

    def logits(self, ops: Ops, hidden: Array) -> Array:
        """[n_rows, n_embd] -> [n_rows, n_vocab]; only rows someone reads reach the largest matrix."""
        return ops.linear(hidden, self.output)

    def _attention(
        self, ops: Ops, layer: LlamaLayer, x: Array, *, angles: Array, batch: Batch, cache: LayerCache
    ) -> Array:
        cfg = self.config
        q, k, v = ops.linear_many(x, [layer.attn_q, layer.attn_k, layer.attn_v])
        q = _biased(ops, q, layer.attn_q_bias).reshape(batch.n_tokens, cfg.n_head, cfg.head_dim)
        k = _biased(ops, k, layer.attn_k_bias).reshape(batch.n_tokens, cfg.n_head_kv, cfg.head_dim)
        v = _biased(ops, v, layer.attn_v_bias).reshape(batch.n_tokens, cfg.n_head_kv, cfg.head_dim)
        # GGUF `llama` files hold q and k with each rotary pair side by side.
        q = ops.rope(q, angles, interleaved=True)
        k = ops.rope(k, angles, interleaved=True)
        ops.store_kv(k, v, cache, batch.slots)
        out = ops.attention(q, cache, batch.attention, scale=cfg.head_dim**-0.5)
        out = out.reshape(batch.n_tokens, cfg.n_head * cfg.head_dim)
        return _biased(ops, ops.linear(out, layer.attn_output), layer.attn_output_bias)


def _feed_forward(ops: Ops, layer: LlamaLayer, x: Array) -> Array:
    gate, up = ops.linear_many(x, [layer.ffn_gate, layer.ffn_up])  # [n_tokens, n_ff]
    gate, up = _biased(ops, gate, layer.ffn_gate_bias), _biased(ops, up, layer.ffn_up_bias)
    return _biased(ops, ops.linear(ops.silu_mul(gate, up), layer.ffn_down), layer.ffn_down_bias)


def _biased(ops: Ops, x: Array, bias: Array | None) -> Array:
    return x if bias is None else ops.add_bias(x, bias)


def build_llama(config: "ModelConfig", weights: WeightSource) -> LlamaModel:
    """Raises ModelFileError for a missing tensor or a shape that the hyperparameters do not give."""
    tied = not weights.has("output.weight")
    n_vocab, n_embd = config.n_vocab, config.n_embd
    token_embd = weights.matrix("token_embd.weight", n_vocab, n_embd, EMBED | LINEAR if tied else EMBED)
    return LlamaModel(
        config=config,
        token_embd=token_embd,
        layers=tuple(_build_layer(config, weights, f"blk.{i}.") for i in range(config.n_layer)),
        output_norm=weights.vector("output_norm.weight", n_embd),
        output=token_embd if tied else weights.matrix("output.weight", n_vocab, n_embd),
        rope_freqs=weights.to_device(rope_freqs(config.rope, _rope_divisors(config, weights))),
        rope_mscale=rope_mscale(config.rope),
    )


def _build_layer(config: "ModelConfig", weights: WeightSource, prefix: str) -> LlamaLayer:
    n_embd, n_ff = config.n_embd, config.n_ff
    n_q, n_kv = config.n_head * config.head_dim, config.n_head_kv * config.head_dim
    return LlamaLayer(
        attn_norm=weights.vector(prefix + "attn_norm.weight", n_embd),
        attn_q=weights.matrix(prefix + "attn_q.weight", n_q, n_embd),
        attn_k=weights.matrix(prefix + "attn_k.weight", n_kv, n_embd),
        attn_v=weights.matrix(prefix + "attn_v.weight", n_kv, n_embd),
        attn_output=weights.matrix(prefix + "attn_output.weight", n_embd, n_q),
        attn_q_bias=weights.optional_vector(prefix + "attn_q.bias", n_q),
        attn_k_bias=weights.optional_vector(prefix + "attn_k.bias", n_kv),
        attn_v_bias=weights.optional_vector(prefix + "attn_v.bias", n_kv),
        attn_output_bias=weights.optional_vector(prefix + "attn_output.bias", n_embd),
        ffn_norm=weights.vector(prefix + "ffn_norm.weight", n_embd),
        ffn_gate=weights.matrix(prefix + "ffn_gate.weight", n_ff, n_embd),
        ffn_up=weights.matrix(prefix + "ffn_up.weight", n_ff, n_embd),
        ffn_down=weights.matrix(prefix + "ffn_down.weight", n_embd, n_ff),
        ffn_gate_bias=weights.optional_vector(prefix + "ffn_gate.bias", n_ff),
        ffn_up_bias=weights.optional_vector(prefix + "ffn_up.bias", n_ff),
        ffn_down_bias=weights.optional_vector(prefix + "ffn_down.bias", n_embd),
    )


def _rope_divisors(config: "ModelConfig", weights: WeightSource) -> np.ndarray | None:
    if not weights.has("rope_freqs.weight"):
        return None
    divisors = weights.host_vector("rope_freqs.weight", config.rope.n_rot // 2)
    if not (np.isfinite(divisors).all() and (divisors > 0).all()):
        raise ModelFileError("tensor 'rope_freqs.weight' holds a number that is not above zero and finite")
    return divisors
