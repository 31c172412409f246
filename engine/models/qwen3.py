"""Qwen3, dense: as qwen2, with an RMS norm on every query and key head in place of the biases.

head_dim is a key of its own (`attention.key_length`): the heads together may be wider than n_embd.
"""

from functools import partial

from engine.models.attention import build_attention
from engine.models.config import ModelConfig
from engine.models.decoder import Decoder, build_decoder
from engine.models.parts import build_feed_forward
from engine.models.weight_source import WeightSource


def build(config: ModelConfig, weights: WeightSource) -> Decoder:
    attention = partial(build_attention, head_norms="required")
    return build_decoder(config, weights, attention, build_feed_forward)
