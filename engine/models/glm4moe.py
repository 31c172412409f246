"""GLM-4.5 to 4.7 and Air: biased queries, keys and values, half-rotated heads, experts chosen by biased sigmoids.

The first layers are dense. expert_gating_func is missing in files whose router is a sigmoid all the same.
"""

from functools import partial

from engine.metadata_reader import MetadataReader
from engine.models.attention import build_attention
from engine.models.config import base_fields
from engine.models.config import extra_layers as skipped
from engine.models.decoder import Decoder, FeedForwardPart, build_decoder
from engine.models.experts import MoeConfig, build_experts, read_experts
from engine.models.parts import build_feed_forward
from engine.models.weight_source import WeightSource

__all__ = ["build", "read_config", "skipped"]


def read_config(keys: MetadataReader) -> MoeConfig:
    base = base_fields(keys, predicts_further=True, n_ff=0)
    experts = read_experts(keys, gating="sigmoid", normalize=False, n_ff=base["n_ff"])
    n_dense = keys.integer("leading_dense_block_count", 0, base["n_layer"], default=0)
    return MoeConfig(**base, experts=experts, n_dense_layers=n_dense)


def build(config: MoeConfig, weights: WeightSource) -> Decoder:
    attention = partial(build_attention, qkv_biases="optional", head_norms="optional")
    return build_decoder(config, weights, attention, feed_forward, ffn_norm="post_attention_norm")


def feed_forward(config: MoeConfig, weights: WeightSource, i: int) -> FeedForwardPart:
    if i < config.n_dense_layers:
        return build_feed_forward(config, weights, i)
    return build_experts(config, weights, i, may_have_bias=True)
