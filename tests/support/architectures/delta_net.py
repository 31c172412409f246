"""qwen35 and qwen35moe: three layers of gated delta net to one of gated attention."""

from collections.abc import Mapping

from support.architectures.grouped_query import (
    N_HEAD,
    N_HEAD_KV,
    NO_TYPES,
    attention_shapes,
    dense_ffn,
    expert_ffn,
    expert_keys,
    head_norms,
    nextn_shapes,
)
from support.architectures.random_file import RandomFile, Shapes, all_shapes, outer_keys

INTERVAL = 3  # layers 0, 1 and 3 are linear, 2 is full
N_LAYER = 4


def qwen35(
    architecture: str = "qwen35",
    n_embd: int = 96,
    n_ff: int = 160,
    head_dim: int = 32,
    n_k_head: int = 2,
    n_v_head: int = 6,
    width: int = 16,
    n_nextn: int = 0,
    types: Mapping[str, str] = NO_TYPES,
) -> RandomFile:
    """width: of the heads of the delta net. qwen35moe: nine experts of n_ff / 4 and a shared one of n_ff / 2."""
    mixture = architecture == "qwen35moe"
    ffn = gated_mixture(n_embd, n_ff // 4, n_ff // 2) if mixture else dense_ffn(n_embd, n_ff)
    linear = delta_shapes(n_embd, n_k_head, n_v_head, width)
    keys = outer_keys(N_LAYER + n_nextn, n_embd, n_ff, N_HEAD, N_HEAD_KV) | {
        "attention.key_length": head_dim,
        "attention.value_length": head_dim,
        "rope.freq_base": 1e5,
        "rope.dimension_count": head_dim // 4,
        "rope.dimension_sections": [2, 1, 1, 0],
        "ssm.conv_kernel": 4,
        "ssm.state_size": width,
        "ssm.group_count": n_k_head,
        "ssm.time_step_rank": n_v_head,
        "ssm.inner_size": n_v_head * width,
        "full_attention_interval": INTERVAL,
    }
    keys |= {"nextn_predict_layers": n_nextn} if n_nextn else {}
    if mixture:
        keys |= expert_keys(9, 3, n_ff // 4) | {"expert_shared_feed_forward_length": n_ff // 2}

    def layer(i: int) -> Shapes:
        further = nextn_shapes(n_embd) if i >= N_LAYER else {}
        full = i >= N_LAYER or (i + 1) % INTERVAL == 0
        attention = gated_attention(n_embd, head_dim) if full else linear
        return attention | {"post_attention_norm": (n_embd,)} | ffn | further

    return RandomFile(architecture, keys, all_shapes(N_LAYER + n_nextn, n_embd, layer), types)


def gated_attention(n_embd: int, head_dim: int) -> Shapes:
    """Per head of attn_q its query, then its gate."""
    gated = {"attn_q": (N_HEAD * 2 * head_dim, n_embd)}
    return attention_shapes(n_embd, head_dim) | gated | head_norms(head_dim)


def delta_shapes(n_embd: int, n_k_head: int, n_v_head: int, width: int) -> Shapes:
    n_channels, n_inner = (2 * n_k_head + n_v_head) * width, n_v_head * width
    return {
        "attn_norm": (n_embd,),
        "attn_qkv": (n_channels, n_embd),
        "attn_gate": (n_inner, n_embd),
        "ssm_conv1d": (n_channels, 4),
        "ssm_alpha": (n_v_head, n_embd),
        "ssm_beta": (n_v_head, n_embd),
        "ssm_dt.bias": (n_v_head,),
        "ssm_a": (n_v_head,),
        "ssm_norm": (width,),
        "ssm_out": (n_embd, n_inner),
    }


def gated_mixture(n_embd: int, n_ff: int, n_ff_shared: int) -> Shapes:
    shared = dense_ffn(n_embd, n_ff_shared, "_shexp") | {"ffn_gate_inp_shexp": (n_embd,)}
    return expert_ffn(n_embd, n_ff, 9) | shared
