"""Architectures of one latent row a token: deepseek2 in its three forms, glm-dsa."""

from collections.abc import Mapping
from typing import Any

from support.architectures.grouped_query import (
    NO_TYPES,
    dense_ffn,
    expert_keys,
    mixture_keys,
    nextn_shapes,
    shared_mixture,
)
from support.architectures.random_file import RandomFile, Shapes, all_shapes, outer_keys

N_EMBD, N_HEAD, NOPE, VALUE = 96, 4, 32, 32
YARN = {
    "rope.scaling.type": "yarn",
    "rope.scaling.factor": 4.0,
    "rope.scaling.original_context_length": 64,
}


def lite() -> RandomFile:
    """DeepSeek V2 Lite: no latent of queries, keys and values in one matrix, softmax without renormalizing."""
    keys = _keys(4, latent=64, rope=16, split=False, q_lora=None) | YARN | {
        "rope.freq_base": 1e4,
        "rope.scaling.yarn_log_multiplier": 0.0707,
    } | expert_keys(6, 2, 40) | mixture_keys(1.0, gating=1, n_shared=2)  # fmt: skip
    attention = latent_attention(64, 16, split=False, q_lora=None)
    experts = shared_mixture(N_EMBD, 40, 6, n_shared=2, bias=False)
    return RandomFile("deepseek2", keys, all_shapes(3, N_EMBD, _layers(attention, experts)))


def v3(
    split: bool = True, n_embd: int = N_EMBD, n_ff: int = 40, types: Mapping[str, str] = NO_TYPES
) -> RandomFile:
    """DeepSeek V3: groups of experts, a bias that chooses, yarn. split: attn_k_b and attn_v_b for attn_kv_b."""
    keys = _keys(N_HEAD, latent=256, rope=32, split=split, q_lora=n_embd, n_embd=n_embd) | YARN | {
        "rope.freq_base": 1e4,
        "rope.scaling.yarn_log_multiplier": 0.1,
        "expert_group_count": 4,
        "expert_group_used_count": 2,
    } | expert_keys(12, 3, n_ff) | mixture_keys(2.5)  # fmt: skip
    attention = latent_attention(256, 32, split, n_embd, n_embd)
    experts = shared_mixture(n_embd, n_ff, 12, n_shared=1)
    return RandomFile("deepseek2", keys, all_shapes(3, n_embd, _layers(attention, experts, n_embd)), types)


def flash() -> RandomFile:
    """GLM-4.7-Flash: as V3 with one group, plain rope."""
    keys = _keys(N_HEAD, latent=96, rope=32, split=True, q_lora=72) | {"rope.freq_base": 1e6}
    keys |= expert_keys(8, 2, 40) | mixture_keys(1.8)
    attention = latent_attention(96, 32, split=True, q_lora=72)
    experts = shared_mixture(N_EMBD, 40, 8, n_shared=1)
    return RandomFile("deepseek2", keys, all_shapes(3, N_EMBD, _layers(attention, experts)))


def glm_dsa(top_k: int = 512, n_nextn: int = 0) -> RandomFile:
    """Four layers: the first three choose `top_k` tokens each, the last takes the third's choice."""
    keys = _keys(N_HEAD, latent=96, rope=32, split=True, q_lora=72, n_layer=4 + n_nextn)
    keys |= expert_keys(8, 2, 40) | mixture_keys(2.5, n_dense=2) | {
        "rope.freq_base": 1e6,
        "attention.indexer.head_count": 4,
        "attention.indexer.key_length": 64,
        "attention.indexer.top_k": top_k,
    } | ({"nextn_predict_layers": n_nextn} if n_nextn else {})  # fmt: skip
    attention = latent_attention(96, 32, split=True, q_lora=72)
    experts = shared_mixture(N_EMBD, 40, 8, n_shared=1)
    indexer = {
        "indexer.k_norm": (64,),
        "indexer.k_norm.bias": (64,),
        "indexer.proj": (4, N_EMBD),
        "indexer.attn_k": (64, N_EMBD),
        "indexer.attn_q_b": (4 * 64, 72),
    }

    def layer(i: int) -> Shapes:
        ffn = experts if i >= 2 else dense_ffn(N_EMBD, 4 * N_EMBD)
        return attention | (indexer if i < 3 else {}) | ffn | (nextn_shapes(N_EMBD) if i >= 4 else {})

    return RandomFile("glm-dsa", keys, all_shapes(4 + n_nextn, N_EMBD, layer))


def latent_attention(latent: int, rope: int, split: bool, q_lora: int | None, n_embd: int = N_EMBD) -> Shapes:
    n_q = N_HEAD * (NOPE + rope)
    query: Shapes = {"attn_q": (n_q, n_embd)}
    if q_lora is not None:
        query = {"attn_q_a": (q_lora, n_embd), "attn_q_a_norm": (q_lora,), "attn_q_b": (n_q, q_lora)}
    from_latent: Shapes = {"attn_kv_b": (N_HEAD * (NOPE + VALUE), latent)}
    if split:
        from_latent = {"attn_k_b": (N_HEAD, latent, NOPE), "attn_v_b": (N_HEAD, VALUE, latent)}
    return {
        "attn_norm": (n_embd,),
        "ffn_norm": (n_embd,),
        **query,
        "attn_kv_a_mqa": (latent + rope, n_embd),
        "attn_kv_a_norm": (latent,),
        **from_latent,
        "attn_output": (n_embd, N_HEAD * VALUE),
    }


def _layers(attention: Shapes, experts: Shapes, n_embd: int = N_EMBD) -> Any:
    return lambda i: attention | (experts if i else dense_ffn(n_embd, 4 * n_embd))


def _keys(
    n_head_kv: int,
    latent: int,
    rope: int,
    split: bool,
    q_lora: int | None,
    n_layer: int = 3,
    n_embd: int = N_EMBD,
) -> dict[str, Any]:
    """split: the newer files' widths, which give the cache row as the key."""
    lengths = {"attention.key_length": NOPE + rope, "attention.value_length": VALUE}
    if split:
        n_head_kv = 1
        lengths = {
            "attention.key_length": latent + rope,
            "attention.value_length": latent,
            "attention.key_length_mla": NOPE + rope,
            "attention.value_length_mla": VALUE,
        }
    ranks = {"attention.kv_lora_rank": latent, "rope.dimension_count": rope}
    ranks |= {} if q_lora is None else {"attention.q_lora_rank": q_lora}
    return outer_keys(n_layer, n_embd, 4 * n_embd, N_HEAD, n_head_kv) | lengths | ranks
