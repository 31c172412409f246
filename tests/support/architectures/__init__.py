"""Small random files of the architectures beyond llama, qwen2 and qwen3, by the form that each shows."""

from dataclasses import replace
from pathlib import Path

from support.architectures.delta_net import FOUR, Delta, qwen35
from support.architectures.grouped_query import gemma3, glm4moe, mistral3, qwen3moe, qwen3vl
from support.architectures.latent import V3, flash, glm_dsa, lite, v3
from support.architectures.random_file import SMALL, WIDE, RandomFile

GOLDEN = Path(__file__).parents[2] / "data" / "architecture_logits.npz"
#: Matrices of experts and attention in KT types, rows of 256, as pure KT files have them.
KT_TYPES = {
    "token_embd": "Q8_0", "output": "Q6_K", "ffn_gate": "IQ3_KT", "ffn_up": "IQ2_KT", "ffn_down": "IQ4_KT",
    "ffn_gate_exps": "IQ1_KT", "ffn_up_exps": "IQ2_KT", "ffn_down_exps": "IQ3_KT",
    "ffn_gate_shexp": "IQ4_KT", "ffn_up_shexp": "IQ2_KT", "ffn_down_shexp": "IQ4_K",
    "attn_q": "IQ2_KT", "attn_k": "IQ3_KT", "attn_v": "Q8_0", "attn_output": "IQ4_KT",
    "attn_qkv": "IQ4_KT", "attn_gate": "IQ3_KT", "ssm_alpha": "IQ2_KT", "ssm_beta": "IQ3_KT", "ssm_out": "IQ2_KT",
    "attn_q_a": "IQ4_KT", "attn_q_b": "IQ3_KT", "attn_kv_a_mqa": "IQ4_KT", "attn_k_b": "IQ4_NL",
    "attn_v_b": "IQ3_KT",
}  # fmt: skip

MODELS: dict[str, RandomFile] = {
    "qwen3moe": qwen3moe(),
    "qwen3moe, gate and up in one": qwen3moe(fused=True),
    "qwen3moe in KT types": qwen3moe(WIDE, types=KT_TYPES),
    "qwen3vl": qwen3vl(),
    "qwen3vlmoe": qwen3moe(architecture="qwen3vlmoe"),
    "qwen35": qwen35(),
    "qwen35, a layer of MTP, as many v heads as k heads": qwen35(
        replace(FOUR, n_nextn=1), Delta(n_k_head=3, n_v_head=3)
    ),
    "qwen35moe": qwen35(architecture="qwen35moe"),
    "qwen35moe in KT types": qwen35(
        replace(WIDE, n_layer=3), Delta(n_v_head=8, width=64), "qwen35moe", types=KT_TYPES
    ),
    "glm4moe": glm4moe(),
    "glm4moe without norms of heads, a layer of MTP (Air)": glm4moe(
        replace(SMALL, n_nextn=1, scale=1.0), head_norm=False
    ),
    "deepseek2 Lite": lite(),
    "deepseek2 V3": v3(),
    "deepseek2 V3, one matrix for k and v": v3(latent=replace(V3, split=False)),
    "deepseek2 V3 in KT types": v3(WIDE, replace(V3, query=256), types=KT_TYPES),
    "deepseek2 Flash": flash(),
    "glm-dsa": glm_dsa(),
    # Near the end of 300 tokens: a choice on the edge is another one by a rounding, and all later tokens tell.
    "glm-dsa, sparse, a layer of MTP": glm_dsa(replace(SMALL, n_nextn=1), top_k=270),
    "mistral3": mistral3(),
    "mistral3, factor 16": mistral3(factor=16.0),
    "gemma3": gemma3(),
    "gemma3, tied, a window of 100": gemma3(window=100, tied=True),
}
