"""Qwen3.5 to 3.8: three layers of gated delta net and one of gated attention in turn, dense or with experts.

The experts are those of qwen3moe and a shared one that a sigmoid scales. Norm weights are stored as they multiply.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.batch import Batch
from engine.metadata_reader import MetadataReader
from engine.models.config import MAX_LAYERS, ModelConfig, base_fields
from engine.models.config import extra_layers as skipped
from engine.models.decoder import AttentionPart, Decoder, FeedForwardPart, build_decoder
from engine.models.delta_net import DeltaNetConfig, build_delta_net, read_delta_net
from engine.models.experts import ExpertsConfig, MoeConfig, build_experts, read_experts
from engine.models.parts import build_feed_forward
from engine.models.weight_source import WeightSource
from kernels.batches import Array, LayerCache
from kernels.cache_groups import CacheGroup, PagedGroup
from kernels.ops import Ops, Rotation
from kernels.quant_tensor import QuantTensor

__all__ = ["build", "read_config", "read_moe_config", "skipped"]


@dataclass(frozen=True, kw_only=True)
class Qwen35Config(ModelConfig):
    """Every full_attention_interval-th layer attends; the others are delta nets."""

    delta_net: DeltaNetConfig
    full_attention_interval: int

    def attends(self, i: int) -> bool:
        return (i + 1) % self.full_attention_interval == 0


@dataclass(frozen=True, kw_only=True)
class Qwen35MoeConfig(MoeConfig, Qwen35Config):
    """The same with experts in every layer."""


def read_config(keys: MetadataReader) -> Qwen35Config:
    return Qwen35Config(**_fields(keys))


def read_moe_config(keys: MetadataReader) -> Qwen35MoeConfig:
    fields = _fields(keys, n_ff=0)
    experts: ExpertsConfig = read_experts(keys, gating="softmax", normalize=True, n_ff=fields["n_ff"])
    return Qwen35MoeConfig(**fields, experts=experts)


def _fields(keys: MetadataReader, n_ff: int | None = None) -> dict[str, Any]:
    base = base_fields(keys, predicts_further=True, n_ff=n_ff)
    interval = keys.integer("full_attention_interval", 1, MAX_LAYERS, default=4)
    if interval > base["n_layer"]:
        raise keys.error("full_attention_interval", f"at most the {base['n_layer']} layers are needed")
    return base | {"delta_net": read_delta_net(keys), "full_attention_interval": interval}


@dataclass(frozen=True)
class GatedAttention:
    """Grouped-query attention with normed heads, whose output is scaled by sigmoids of a gate for each value."""

    config: ModelConfig
    attn_q: QuantTensor  # [n_head * head_dim, n_embd]
    attn_q_gate: (
        QuantTensor  # [n_head * head_dim, n_embd]; a file has each head's rows after those of its query
    )
    attn_k: QuantTensor  # [n_head_kv * head_dim, n_embd]
    attn_v: QuantTensor  # [n_head_kv * head_dim, n_embd]
    attn_q_norm: Array  # [head_dim]
    attn_k_norm: Array  # [head_dim]
    attn_output: QuantTensor  # [n_embd, n_head * head_dim]

    def forward(
        self, ops: Ops, x: Array, *, angles: Array, batch: Batch, cache: LayerCache, residual: Array
    ) -> Array:
        """residual + attention's output. [n_tokens, n_embd] -> [n_tokens, n_embd]"""
        c = self.config
        q, gate, k, v = ops.linear_many(x, [self.attn_q, self.attn_q_gate, self.attn_k, self.attn_v])
        q, k = self._normed(ops, q, self.attn_q_norm), self._normed(ops, k, self.attn_k_norm)
        v = v.reshape(batch.n_tokens, c.n_head_kv, c.head_dim)
        q = ops.rope_and_store(q, k, v, Rotation(angles, interleaved=False), cache, batch.slots)
        out = ops.attention(q, cache, batch.attention, scale=c.head_dim**-0.5)
        gated = ops.sigmoid_mul(out.reshape(batch.n_tokens, c.n_head * c.head_dim), gate)
        return ops.linear_add(gated, self.attn_output, residual)

    def _normed(self, ops: Ops, x: Array, weight: Array) -> Array:
        """[n_tokens, n * head_dim] -> [n_tokens, n, head_dim], each head on its own."""
        n_tokens, width, head_dim = x.shape[0], x.shape[1], self.config.head_dim
        normed = ops.rms_norm(x.reshape(n_tokens * width // head_dim, head_dim), weight, self.config.rms_eps)
        return normed.reshape(n_tokens, width // head_dim, head_dim)


def build(config: Qwen35Config, weights: WeightSource) -> Decoder:
    """Dense, or with experts where the config has them. Raises ModelFileError as the source does."""
    attending = [i for i in range(config.n_layer) if config.attends(i)]
    groups: tuple[CacheGroup, ...] = (PagedGroup(len(attending), config.n_head_kv, config.head_dim),)
    if len(attending) < config.n_layer:
        groups += (config.delta_net.state_group(config.n_layer - len(attending)),)
    return build_decoder(
        config,
        weights,
        _build_attention,
        _build_feed_forward,
        ffn_norm="post_attention_norm",
        groups=groups,
        group_of=lambda i: 0 if config.attends(i) else 1,
    )


def _build_attention(config: Qwen35Config, weights: WeightSource, i: int) -> AttentionPart:
    if not config.attends(i):
        return build_delta_net(config.delta_net, config.rms_eps, config.n_embd, weights, i)
    prefix, n_embd, head_dim = f"blk.{i}.", config.n_embd, config.head_dim
    n_kv = config.n_head_kv * head_dim
    rows = np.arange(config.n_head * 2 * head_dim).reshape(config.n_head, 2, head_dim)
    q, gate = weights.row_parts(prefix + "attn_q.weight", [rows[:, j].reshape(-1) for j in range(2)], n_embd)
    return GatedAttention(
        config=config,
        attn_q=q,
        attn_q_gate=gate,
        attn_k=weights.matrix(prefix + "attn_k.weight", n_kv, n_embd),
        attn_v=weights.matrix(prefix + "attn_v.weight", n_kv, n_embd),
        attn_q_norm=weights.vector(prefix + "attn_q_norm.weight", head_dim),
        attn_k_norm=weights.vector(prefix + "attn_k_norm.weight", head_dim),
        attn_output=weights.matrix(prefix + "attn_output.weight", n_embd, config.n_head * head_dim),
    )


def _build_feed_forward(config: Qwen35Config, weights: WeightSource, i: int) -> FeedForwardPart:
    if isinstance(config, Qwen35MoeConfig):
        return build_experts(config, weights, i, gated_shared=True)
    return build_feed_forward(config, weights, i)
