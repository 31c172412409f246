"""Llama 2 and 3, Mistral, TinyLlama and their near relatives: pre-norm, grouped-query attention, gated SiLU FFN."""

from functools import partial

from engine.models.attention import build_attention
from engine.models.config import ModelConfig
from engine.models.decoder import Decoder, build_decoder
from engine.models.parts import build_feed_forward
from engine.models.weight_source import WeightSource


def build(config: ModelConfig, weights: WeightSource) -> Decoder:
    attention = partial(build_attention, interleaved=True, qkv_biases="optional", output_bias="optional")
    return build_decoder(config, weights, attention, build_feed_forward)
