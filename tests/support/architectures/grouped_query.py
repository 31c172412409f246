"""Architectures of keys and values per head: qwen3moe, qwen3vl, qwen3vlmoe, glm4moe, mistral3, gemma3."""

from collections.abc import Mapping
from typing import Any

from support.architectures.random_file import RandomFile, Shapes, all_shapes, outer_keys

N_EMBD, N_HEAD, N_HEAD_KV, HEAD_DIM = 96, 4, 2, 32
NO_TYPES: Mapping[str, str] = {}


def attention_shapes(n_embd: int, head_dim: int = HEAD_DIM) -> Shapes:
    n_q, n_kv = N_HEAD * head_dim, N_HEAD_KV * head_dim
    return {
        "attn_norm": (n_embd,),
        "attn_q": (n_q, n_embd),
        "attn_k": (n_kv, n_embd),
        "attn_v": (n_kv, n_embd),
        "attn_output": (n_embd, n_q),
    }


def head_norms(head_dim: int = HEAD_DIM) -> Shapes:
    return {"attn_q_norm": (head_dim,), "attn_k_norm": (head_dim,)}


def dense_ffn(n_embd: int, n_ff: int, suffix: str = "") -> Shapes:
    return {
        f"ffn_gate{suffix}": (n_ff, n_embd),
        f"ffn_up{suffix}": (n_ff, n_embd),
        f"ffn_down{suffix}": (n_embd, n_ff),
    }


def expert_ffn(n_embd: int, n_ff: int, n_expert: int, fused: bool = False) -> Shapes:
    """Router and stacks. fused: gate and up of an expert in one matrix, gate rows first."""
    pair: Shapes = {
        "ffn_gate_exps": (n_expert, n_ff, n_embd),
        "ffn_up_exps": (n_expert, n_ff, n_embd),
    }
    if fused:
        pair = {"ffn_gate_up_exps": (n_expert, 2 * n_ff, n_embd)}
    return {"ffn_gate_inp": (n_expert, n_embd)} | pair | {"ffn_down_exps": (n_expert, n_embd, n_ff)}


def expert_keys(n_expert: int, n_used: int, n_ff: int) -> dict[str, Any]:
    return {"expert_count": n_expert, "expert_used_count": n_used, "expert_feed_forward_length": n_ff}


def _lengths(head_dim: int = HEAD_DIM) -> dict[str, Any]:
    return {"attention.key_length": head_dim, "attention.value_length": head_dim}


_VISION = {"n_deepstack_layers": 3, "rope.dimension_sections": [6, 5, 5, 0]}  # 16 pairs of a head of 32


def qwen3moe(
    architecture: str = "qwen3moe",
    n_embd: int = N_EMBD,
    n_ff: int = 40,
    head_dim: int = HEAD_DIM,
    n_expert: int = 9,
    fused: bool = False,
    types: Mapping[str, str] = NO_TYPES,
) -> RandomFile:
    n_layer = 3
    keys = outer_keys(n_layer, n_embd, 4 * n_embd, N_HEAD, N_HEAD_KV) | expert_keys(n_expert, 3, n_ff)
    keys |= _lengths(head_dim) | {"rope.freq_base": 1e6} | (_VISION if architecture == "qwen3vlmoe" else {})
    shapes = attention_shapes(n_embd, head_dim) | head_norms(head_dim) | {"ffn_norm": (n_embd,)}
    shapes |= expert_ffn(n_embd, n_ff, n_expert, fused)
    return RandomFile(architecture, keys, all_shapes(n_layer, n_embd, lambda i: shapes), types)


def qwen3vl() -> RandomFile:
    keys = outer_keys(3, N_EMBD, 160, N_HEAD, N_HEAD_KV) | _lengths() | {"rope.freq_base": 5e6} | _VISION
    shapes = attention_shapes(N_EMBD) | head_norms() | {"ffn_norm": (N_EMBD,)} | dense_ffn(N_EMBD, 160)
    return RandomFile("qwen3vl", keys, all_shapes(3, N_EMBD, lambda i: shapes))


def glm4moe(
    head_norm: bool = True,
    n_nextn: int = 0,
    scale: float = 2.5,
    n_embd: int = N_EMBD,
    n_ff: int = 40,
    head_dim: int = HEAD_DIM,
    types: Mapping[str, str] = NO_TYPES,
) -> RandomFile:
    """One dense layer, two of experts; n_nextn more layers that predict a token further and are not run."""
    n_layer, n_expert, n_kv = 3 + n_nextn, 8, N_HEAD_KV * head_dim
    keys = outer_keys(n_layer, n_embd, 4 * n_embd, N_HEAD, N_HEAD_KV) | expert_keys(n_expert, 2, n_ff)
    keys |= _lengths(head_dim) | mixture_keys(scale) | {
        "rope.freq_base": 1e6,
        "rope.dimension_count": head_dim // 2,
        "nextn_predict_layers": n_nextn,
    }  # fmt: skip
    biases = {"attn_q.bias": (N_HEAD * head_dim,), "attn_k.bias": (n_kv,), "attn_v.bias": (n_kv,)}
    attention = attention_shapes(n_embd, head_dim) | biases | {"post_attention_norm": (n_embd,)}
    attention |= head_norms(head_dim) if head_norm else {}
    experts = shared_mixture(n_embd, n_ff, n_expert, n_shared=1)

    def layer(i: int) -> Shapes:
        further = nextn_shapes(n_embd) if i >= 3 else {}
        return attention | (experts if i else dense_ffn(n_embd, 4 * n_embd)) | further

    return RandomFile("glm4moe", keys, all_shapes(n_layer, n_embd, layer), types)


def mixture_keys(scale: float, gating: int = 2, n_shared: int = 1, n_dense: int = 1) -> dict[str, Any]:
    """What GLM's and DeepSeek's mixtures say besides their sizes. gating 1: softmax, 2: sigmoid."""
    return {
        "expert_shared_count": n_shared,
        "leading_dense_block_count": n_dense,
        "expert_weights_scale": scale,
        "expert_weights_norm": gating == 2,
        "expert_gating_func": gating,
    }


def shared_mixture(n_embd: int, n_ff: int, n_expert: int, n_shared: int, bias: bool = True) -> Shapes:
    """Routed experts with a bias that only chooses, and the experts that every token uses, as one network."""
    chosen_by = {"exp_probs_b.bias": (n_expert,)} if bias else {}
    return expert_ffn(n_embd, n_ff, n_expert) | dense_ffn(n_embd, n_ff * n_shared, "_shexp") | chosen_by


def nextn_shapes(n_embd: int) -> Shapes:
    norms = {f"nextn.{name}": (n_embd,) for name in ("enorm", "hnorm", "shared_head_norm")}
    return {"nextn.eh_proj": (n_embd, 2 * n_embd)} | norms


def mistral3(factor: float = 4.0) -> RandomFile:
    """300 tokens are four steps of the temperature of attention."""
    keys = outer_keys(3, N_EMBD, 160, N_HEAD, N_HEAD_KV) | _lengths() | {
        "rope.freq_base": 1e6,
        "rope.dimension_count": HEAD_DIM,
        "rope.scaling.type": "yarn",
        "rope.scaling.factor": factor,
        "rope.scaling.original_context_length": 64,
        "rope.scaling.yarn_beta_fast": 32.0,
        "rope.scaling.yarn_beta_slow": 1.0,
        "rope.scaling.yarn_log_multiplier": 1.0,
        "attention.temperature_scale": 0.1,
    }  # fmt: skip
    shapes = attention_shapes(N_EMBD) | {"ffn_norm": (N_EMBD,)} | dense_ffn(N_EMBD, 160)
    return RandomFile("mistral3", keys, all_shapes(3, N_EMBD, lambda i: shapes))


def gemma3(window: int = 40, tied: bool = False) -> RandomFile:
    """Seven layers: the sixth sees everything, with its own rope; the others see `window` tokens."""
    keys = outer_keys(7, N_EMBD, 160, N_HEAD, N_HEAD_KV) | _lengths() | {
        "attention.sliding_window": window,
        "rope.freq_base": 1e6,
        "rope.scaling.type": "linear",
        "rope.scaling.factor": 8.0,
    }  # fmt: skip
    norms = dict.fromkeys(("post_attention_norm", "ffn_norm", "post_ffw_norm"), (N_EMBD,))
    shapes = attention_shapes(N_EMBD) | head_norms() | norms | dense_ffn(N_EMBD, 160)
    whole = all_shapes(7, N_EMBD, lambda i: shapes)
    if tied:
        del whole["output.weight"]
    return RandomFile("gemma3", keys, whole)
