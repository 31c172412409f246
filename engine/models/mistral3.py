"""Ministral 3: as llama, with attention that sharpens with the length of a text.

A query at position p is scaled by 1 + beta * ln(1 + floor(p / original_context)). Cosines and sines are not scaled
where the file gives yarn's multiplier over all dimensions as 1, as every published file does.
"""

import math
from dataclasses import dataclass, replace

import numpy as np

from engine.batch import Batch
from engine.metadata_reader import MetadataReader
from engine.models.attention import GroupedQueryAttention, build_attention
from engine.models.config import ModelConfig, base_fields
from engine.models.decoder import Decoder, build_decoder
from engine.models.parts import build_feed_forward
from engine.models.rope import rope_mscale
from engine.models.weight_source import WeightSource
from kernels.batches import Array, LayerCache
from kernels.ops import Ops, Rotation

MAX_STEPS = 1 << 20  # of the temperature, within the trained context


@dataclass(frozen=True, kw_only=True)
class Mistral3Config(ModelConfig):
    """mscale_all_dim: yarn's, by which the scale of cosines and sines is divided."""

    temperature_scale: float
    mscale_all_dim: float


@dataclass(frozen=True, kw_only=True)
class TemperedAttention(GroupedQueryAttention):
    """temperatures [n]: the factor of queries at positions i * stride to (i + 1) * stride - 1."""

    temperatures: Array
    stride: int

    def heads(self, ops: Ops, x: Array, *, angles: Array, batch: Batch, cache: LayerCache) -> Array:
        q, k, v = ops.linear_many(x, [self.attn_q, self.attn_k, self.attn_v])
        q = ops.scale_by_position(q, batch.positions, self.temperatures, self.stride)
        q = q.reshape(batch.n_tokens, self.n_head, self.head_dim)
        k = k.reshape(batch.n_tokens, self.n_head_kv, self.head_dim)
        v = v.reshape(batch.n_tokens, self.n_head_kv, self.head_dim)
        q = ops.rope_and_store(q, k, v, Rotation(angles, self.interleaved), cache, batch.slots)
        out = ops.attention(q, cache, batch.attention, scale=self.scale)
        return out.reshape(batch.n_tokens, self.n_head * self.head_dim)


def read_config(keys: MetadataReader) -> Mistral3Config:
    base = base_fields(keys)
    if base["n_ctx_train"] // base["rope"].original_context > MAX_STEPS:
        raise keys.error("rope.scaling.original_context_length", "a larger part of context_length is needed")
    return Mistral3Config(
        **base,
        temperature_scale=keys.number("attention.temperature_scale", 0.0, 100.0, default=0.0),
        mscale_all_dim=keys.number("rope.scaling.yarn_log_multiplier", 0.0, 100.0, default=0.0),
    )


def build(config: Mistral3Config, weights: WeightSource) -> Decoder:
    stride = config.rope.original_context
    steps = np.arange(1, config.n_ctx_train // stride + 2)
    temperatures = weights.to_device((1 + config.temperature_scale * np.log(steps)).astype(np.float32))

    def attention(config: ModelConfig, weights: WeightSource, i: int) -> TemperedAttention:
        plain = build_attention(config, weights, i, interleaved=True)
        return TemperedAttention(**vars(plain), temperatures=temperatures, stride=stride)

    decoder = build_decoder(config, weights, attention, build_feed_forward)
    return replace(decoder, rope=replace(decoder.rope, mscale=_mscale(config)))


def _mscale(config: Mistral3Config) -> float:
    """What cosines and sines are multiplied by."""
    return rope_mscale(config.rope) / (1 + 0.1 * config.mscale_all_dim * math.log(config.rope.factor))
