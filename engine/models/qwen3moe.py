"""Qwen3, mixtures of experts: the attention of qwen3, and experts in every layer."""

from functools import partial

from engine.metadata_reader import MetadataReader
from engine.models.attention import build_attention
from engine.models.config import base_fields
from engine.models.decoder import Decoder, build_decoder
from engine.models.experts import MoeConfig, build_experts, read_experts
from engine.models.weight_source import WeightSource


def read_config(keys: MetadataReader) -> MoeConfig:
    base = base_fields(keys, n_ff=0)
    experts = read_experts(keys, gating="softmax", normalize=True, n_ff=base["n_ff"])
    return MoeConfig(**base, experts=experts)


def build(config: MoeConfig, weights: WeightSource) -> Decoder:
    attention = partial(build_attention, head_norms="required")
    return build_decoder(config, weights, attention, build_experts)
