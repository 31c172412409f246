"""qwen35 and qwen35moe: layers of gated delta net, and every so many one of gated attention."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from support.architectures.grouped_query import (
    NO_TYPES,
    attention_shapes,
    dense_ffn,
    expert_ffn,
    expert_keys,
    head_norms,
)
from support.architectures.random_file import SMALL, RandomFile, Shapes, Sizes, all_shapes, outer_keys

FOUR = replace(SMALL, n_layer=4, freq_base=1e5)


@dataclass(frozen=True)
class Delta:
    """Heads of the delta net, all of one width."""

    n_k_head: int = 2
    n_v_head: int = 6
    width: int = 16
    interval: int = 3  # layers 0, 1 and 3 are linear, 2 is full
    n_taps: int = 4


def qwen35(
    sizes: Sizes = FOUR,
    delta: Delta = Delta(),
    architecture: str = "qwen35",
    types: Mapping[str, str] = NO_TYPES,
) -> RandomFile:
    """qwen35moe: experts, and a shared one of two experts' width."""
    mixture, n_embd = architecture == "qwen35moe", sizes.n_embd
    ffn = gated_mixture(sizes) if mixture else dense_ffn(n_embd, sizes.n_ff)
    linear, full = delta_shapes(n_embd, delta), gated_attention(sizes)
    keys = outer_keys(sizes) | {
        "rope.dimension_count": sizes.head_dim // 4,
        "rope.dimension_sections": [
            sizes.head_dim // 8 - 2 * (sizes.head_dim // 24),
            *[sizes.head_dim // 24] * 2,
            0,
        ],
        "ssm.conv_kernel": delta.n_taps,
        "ssm.state_size": delta.width,
        "ssm.group_count": delta.n_k_head,
        "ssm.time_step_rank": delta.n_v_head,
        "ssm.inner_size": delta.n_v_head * delta.width,
        "full_attention_interval": delta.interval,
    }
    if mixture:
        keys |= expert_keys(sizes) | {"expert_shared_feed_forward_length": 2 * sizes.n_ff_expert}

    def layer(i: int) -> Shapes:
        attends = i >= sizes.n_layer or (i + 1) % delta.interval == 0
        return (full if attends else linear) | {"post_attention_norm": (n_embd,)} | ffn

    return RandomFile(architecture, keys, all_shapes(sizes, layer), types)


def gated_attention(sizes: Sizes) -> Shapes:
    """Per head of attn_q its query, then its gate."""
    gated = {"attn_q": (sizes.n_head * 2 * sizes.head_dim, sizes.n_embd)}
    return attention_shapes(sizes) | gated | head_norms(sizes)


def delta_shapes(n_embd: int, delta: Delta) -> Shapes:
    n_inner = delta.n_v_head * delta.width
    n_channels = 2 * delta.n_k_head * delta.width + n_inner
    return {
        "attn_norm": (n_embd,),
        "attn_qkv": (n_channels, n_embd),
        "attn_gate": (n_inner, n_embd),
        "ssm_conv1d": (n_channels, delta.n_taps),
        "ssm_alpha": (delta.n_v_head, n_embd),
        "ssm_beta": (delta.n_v_head, n_embd),
        "ssm_dt.bias": (delta.n_v_head,),
        "ssm_a": (delta.n_v_head,),
        "ssm_norm": (delta.width,),
        "ssm_out": (n_embd, n_inner),
    }


def gated_mixture(sizes: Sizes) -> Shapes:
    shared = dense_ffn(sizes.n_embd, 2 * sizes.n_ff_expert, "_shexp")
    return expert_ffn(sizes) | shared | {"ffn_gate_inp_shexp": (sizes.n_embd,)}
