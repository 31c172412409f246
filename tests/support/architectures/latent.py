"""Architectures of one latent row a token: deepseek2 in its three forms, glm-dsa."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from support.architectures.grouped_query import (
    NO_TYPES,
    dense_ffn,
    expert_keys,
    mixture_keys,
    shared_mixture,
)
from support.architectures.random_file import SMALL, RandomFile, Shapes, Sizes, all_shapes, outer_keys

YARN = {
    "rope.scaling.type": "yarn",
    "rope.scaling.factor": 4.0,
    "rope.scaling.original_context_length": 64,
}


@dataclass(frozen=True)
class Latent:
    """Widths: of the cached latent, of a head's rotated and other part and of its value, of the queries' latent."""

    width: int = 96
    rope: int = 32
    nope: int = 32
    value: int = 32
    query: int | None = 72
    split: bool = True  # attn_k_b and attn_v_b in the place of attn_kv_b


#: With few of them many keys have no head that likes them, scores of zero, and a choice among equals says nothing.
INDEX_HEADS = 16

LITE = Latent(width=64, rope=16, query=None, split=False)
V3, FLASH = Latent(width=256), Latent()


def lite(sizes: Sizes = SMALL, latent: Latent = LITE) -> RandomFile:
    """DeepSeek V2 Lite: softmax without renormalizing, two shared experts."""
    sizes = replace(sizes, n_shared=2, scale=1.0, freq_base=1e4)
    keys = _keys(sizes, latent) | YARN | mixture_keys(sizes, gating=1)
    keys |= {"rope.scaling.yarn_log_multiplier": 0.0707}
    experts = shared_mixture(sizes, bias=False)
    return RandomFile("deepseek2", keys, _shapes(sizes, latent, experts))


def v3(sizes: Sizes = SMALL, latent: Latent = V3, types: Mapping[str, str] = NO_TYPES) -> RandomFile:
    """DeepSeek V3: four groups of experts of which two are used, a bias that chooses, yarn."""
    sizes = replace(sizes, n_expert=8, freq_base=1e4)
    keys = _keys(sizes, latent) | YARN | mixture_keys(sizes) | {
        "rope.scaling.yarn_log_multiplier": 0.1,
        "expert_group_count": 4,
        "expert_group_used_count": 2,
    }  # fmt: skip
    return RandomFile("deepseek2", keys, _shapes(sizes, latent, shared_mixture(sizes)), types)


def flash(sizes: Sizes = SMALL, latent: Latent = FLASH) -> RandomFile:
    """GLM-4.7-Flash and Kimi: as V3 with one group, here with plain rope."""
    keys = _keys(sizes, latent) | mixture_keys(sizes)
    return RandomFile("deepseek2", keys, _shapes(sizes, latent, shared_mixture(sizes)))


def glm_dsa(sizes: Sizes = SMALL, latent: Latent = FLASH, top_k: int = 512) -> RandomFile:
    """Four layers, of which the first two are dense. The first three choose `top_k` tokens each, the last takes the
    third's choice.
    """
    sizes = replace(sizes, n_layer=4, n_dense=2)
    assert latent.query is not None
    keys = _keys(sizes, latent) | mixture_keys(sizes) | {
        "attention.indexer.head_count": INDEX_HEADS,
        "attention.indexer.key_length": 64,
        "attention.indexer.top_k": top_k,
    }  # fmt: skip
    indexer = {
        "indexer.k_norm": (64,),
        "indexer.k_norm.bias": (64,),
        "indexer.proj": (INDEX_HEADS, sizes.n_embd),
        "indexer.attn_k": (64, sizes.n_embd),
        "indexer.attn_q_b": (INDEX_HEADS * 64, latent.query),
    }
    return RandomFile("glm-dsa", keys, _shapes(sizes, latent, shared_mixture(sizes), indexer))


def latent_attention(sizes: Sizes, latent: Latent) -> Shapes:
    n_head, n_embd = sizes.n_head, sizes.n_embd
    n_q = n_head * (latent.nope + latent.rope)
    query: Shapes = {"attn_q": (n_q, n_embd)}
    if latent.query is not None:
        query = {
            "attn_q_a": (latent.query, n_embd),
            "attn_q_a_norm": (latent.query,),
            "attn_q_b": (n_q, latent.query),
        }
    from_latent: Shapes = {"attn_kv_b": (n_head * (latent.nope + latent.value), latent.width)}
    if latent.split:
        from_latent = {
            "attn_k_b": (n_head, latent.width, latent.nope),
            "attn_v_b": (n_head, latent.value, latent.width),
        }
    return {
        "attn_norm": (n_embd,),
        "ffn_norm": (n_embd,),
        **query,
        "attn_kv_a_mqa": (latent.width + latent.rope, n_embd),
        "attn_kv_a_norm": (latent.width,),
        **from_latent,
        "attn_output": (n_embd, n_head * latent.value),
    }


def _shapes(sizes: Sizes, latent: Latent, experts: Shapes, indexer: Shapes | None = None) -> Shapes:
    attention, dense = latent_attention(sizes, latent), dense_ffn(sizes.n_embd, sizes.n_ff)

    def layer(i: int) -> Shapes:
        chooses = indexer if indexer and i < 3 else {}
        return attention | chooses | (dense if i < sizes.n_dense else experts)

    return all_shapes(sizes, layer)


def _keys(sizes: Sizes, latent: Latent) -> dict[str, Any]:
    """Split files give the cache row as the key, and the heads' widths under names of their own."""
    lengths: dict[str, Any] = {
        "attention.head_count_kv": sizes.n_head,
        "attention.key_length": latent.nope + latent.rope,
        "attention.value_length": latent.value,
    }
    if latent.split:
        lengths = {
            "attention.head_count_kv": 1,
            "attention.key_length": latent.width + latent.rope,
            "attention.value_length": latent.width,
            "attention.key_length_mla": latent.nope + latent.rope,
            "attention.value_length_mla": latent.value,
        }
    ranks: dict[str, Any] = {"attention.kv_lora_rank": latent.width, "rope.dimension_count": latent.rope}
    ranks |= {} if latent.query is None else {"attention.q_lora_rank": latent.query}
    return outer_keys(sizes) | expert_keys(sizes) | lengths | ranks
