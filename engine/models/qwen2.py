"""Qwen2 and Qwen2.5: as llama, with a bias on q, k and v and rotary pairs half a head apart."""

from functools import partial

from engine.models.attention import build_attention
from engine.models.config import ModelConfig
from engine.models.decoder import Decoder, build_decoder
from engine.models.parts import build_feed_forward
from engine.models.weight_source import WeightSource


def build(config: ModelConfig, weights: WeightSource) -> Decoder:
    attention = partial(build_attention, qkv_biases="required")
    return build_decoder(config, weights, attention, build_feed_forward)
