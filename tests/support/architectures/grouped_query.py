"""Architectures of keys and values per head: qwen3moe, qwen3vl, qwen3vlmoe, glm4moe, mistral3, gemma3."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from support.architectures.random_file import SMALL, RandomFile, Shapes, Sizes, all_shapes, outer_keys

NO_TYPES: Mapping[str, str] = {}


def attention_shapes(sizes: Sizes) -> Shapes:
    n_q, n_kv = sizes.n_head * sizes.head_dim, sizes.n_head_kv * sizes.head_dim
    return {
        "attn_norm": (sizes.n_embd,),
        "attn_q": (n_q, sizes.n_embd),
        "attn_k": (n_kv, sizes.n_embd),
        "attn_v": (n_kv, sizes.n_embd),
        "attn_output": (sizes.n_embd, n_q),
    }


def head_norms(sizes: Sizes) -> Shapes:
    return {"attn_q_norm": (sizes.head_dim,), "attn_k_norm": (sizes.head_dim,)}


def dense_ffn(n_embd: int, n_ff: int, suffix: str = "") -> Shapes:
    return {
        f"ffn_gate{suffix}": (n_ff, n_embd),
        f"ffn_up{suffix}": (n_ff, n_embd),
        f"ffn_down{suffix}": (n_embd, n_ff),
    }


def expert_ffn(sizes: Sizes, fused: bool = False) -> Shapes:
    """Router and stacks. fused: gate and up of an expert in one matrix, gate rows first."""
    n, n_ff, n_embd = sizes.n_expert, sizes.n_ff_expert, sizes.n_embd
    pair: Shapes = {"ffn_gate_exps": (n, n_ff, n_embd), "ffn_up_exps": (n, n_ff, n_embd)}
    if fused:
        pair = {"ffn_gate_up_exps": (n, 2 * n_ff, n_embd)}
    return {"ffn_gate_inp": (n, n_embd)} | pair | {"ffn_down_exps": (n, n_embd, n_ff)}


def expert_keys(sizes: Sizes) -> dict[str, Any]:
    return {
        "expert_count": sizes.n_expert,
        "expert_used_count": sizes.n_used,
        "expert_feed_forward_length": sizes.n_ff_expert,
    }


def _vision(sizes: Sizes) -> dict[str, Any]:
    """What only images need."""
    third = sizes.head_dim // 6
    return {
        "n_deepstack_layers": 3,
        "rope.dimension_sections": [sizes.head_dim // 2 - 2 * third, third, third, 0],
    }


def qwen3moe(
    sizes: Sizes = SMALL,
    architecture: str = "qwen3moe",
    fused: bool = False,
    types: Mapping[str, str] = NO_TYPES,
) -> RandomFile:
    keys = outer_keys(sizes) | expert_keys(sizes) | (_vision(sizes) if architecture == "qwen3vlmoe" else {})
    shapes = attention_shapes(sizes) | head_norms(sizes) | {"ffn_norm": (sizes.n_embd,)}
    shapes |= expert_ffn(sizes, fused)
    return RandomFile(architecture, keys, all_shapes(sizes, lambda i: shapes), types)


def qwen3vl(sizes: Sizes = SMALL) -> RandomFile:
    shapes = attention_shapes(sizes) | head_norms(sizes) | {"ffn_norm": (sizes.n_embd,)}
    shapes |= dense_ffn(sizes.n_embd, sizes.n_ff)
    return RandomFile("qwen3vl", outer_keys(sizes) | _vision(sizes), all_shapes(sizes, lambda i: shapes))


def glm4moe(sizes: Sizes = SMALL, head_norm: bool = True, types: Mapping[str, str] = NO_TYPES) -> RandomFile:
    n_q, n_kv, n_embd = sizes.n_head * sizes.head_dim, sizes.n_head_kv * sizes.head_dim, sizes.n_embd
    keys = outer_keys(sizes) | expert_keys(sizes) | mixture_keys(sizes)
    keys |= {"rope.dimension_count": sizes.head_dim // 2}
    biases = {"attn_q.bias": (n_q,), "attn_k.bias": (n_kv,), "attn_v.bias": (n_kv,)}
    attention = attention_shapes(sizes) | biases | {"post_attention_norm": (n_embd,)}
    attention |= head_norms(sizes) if head_norm else {}
    experts, dense = shared_mixture(sizes), dense_ffn(n_embd, sizes.n_ff)
    shapes = all_shapes(sizes, lambda i: attention | (dense if i < sizes.n_dense else experts))
    return RandomFile("glm4moe", keys, shapes, types)


def mixture_keys(sizes: Sizes, gating: int = 2) -> dict[str, Any]:
    """What GLM's and DeepSeek's mixtures say besides their sizes. gating 1: softmax, 2: sigmoid."""
    return {
        "expert_shared_count": sizes.n_shared,
        "leading_dense_block_count": sizes.n_dense,
        "expert_weights_scale": sizes.scale,
        "expert_weights_norm": gating == 2,
        "expert_gating_func": gating,
    }


def shared_mixture(sizes: Sizes, bias: bool = True) -> Shapes:
    """Routed experts with a bias that only chooses, and the experts that every token uses, as one network."""
    chosen_by = {"exp_probs_b.bias": (sizes.n_expert,)} if bias else {}
    shared = dense_ffn(sizes.n_embd, sizes.n_ff_expert * sizes.n_shared, "_shexp")
    return expert_ffn(sizes) | shared | chosen_by


def mistral3(sizes: Sizes = SMALL, factor: float = 4.0) -> RandomFile:
    """300 tokens are four steps of the temperature of attention."""
    keys = outer_keys(sizes) | {
        "rope.dimension_count": sizes.head_dim,
        "rope.scaling.type": "yarn",
        "rope.scaling.factor": factor,
        "rope.scaling.original_context_length": 64,
        "rope.scaling.yarn_beta_fast": 32.0,
        "rope.scaling.yarn_beta_slow": 1.0,
        "rope.scaling.yarn_log_multiplier": 1.0,
        "attention.temperature_scale": 0.1,
    }
    shapes = attention_shapes(sizes) | {"ffn_norm": (sizes.n_embd,)} | dense_ffn(sizes.n_embd, sizes.n_ff)
    return RandomFile("mistral3", keys, all_shapes(sizes, lambda i: shapes))


SEVEN = replace(SMALL, n_layer=7)


def gemma3(sizes: Sizes = SEVEN, window: int = 40, tied: bool = False, factor: float = 8.0) -> RandomFile:
    """The sixth layer sees everything, with its own rope; the others see `window` tokens."""
    stretched = {"rope.scaling.type": "linear", "rope.scaling.factor": factor} if factor != 1 else {}
    keys = outer_keys(sizes) | {"attention.sliding_window": window} | stretched
    norms = dict.fromkeys(("post_attention_norm", "ffn_norm", "post_ffw_norm"), (sizes.n_embd,))
    shapes = attention_shapes(sizes) | head_norms(sizes) | norms | dense_ffn(sizes.n_embd, sizes.n_ff)
    whole = all_shapes(sizes, lambda i: shapes)
    if tied:
        del whole["output.weight"]
    return RandomFile("gemma3", keys, whole)
