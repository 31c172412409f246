"""Checkpoints of architectures with keys and values per head."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import transformers

from support.checkpoints.file_values import FileValues

Arrays = dict[str, np.ndarray]
#: Checkpoint name within a layer -> file name within a block.
ATTENTION = {
    "input_layernorm.weight": "attn_norm.weight",
    "self_attn.q_proj.weight": "attn_q.weight",
    "self_attn.k_proj.weight": "attn_k.weight",
    "self_attn.v_proj.weight": "attn_v.weight",
    "self_attn.o_proj.weight": "attn_output.weight",
}
HEAD_NORMS = {
    "self_attn.q_norm.weight": "attn_q_norm.weight",
    "self_attn.k_norm.weight": "attn_k_norm.weight",
}
FFN_NORM = {"post_attention_layernorm.weight": "ffn_norm.weight"}
BIASES = {f"self_attn.{x}_proj.bias": f"attn_{x}.bias" for x in "qkv"}


def outer(file: FileValues) -> Arrays:
    tied = "output.weight" not in file
    return {
        "embed_tokens.weight": file["token_embd.weight"],
        "norm.weight": file["output_norm.weight"],
        "lm_head.weight": file["token_embd.weight" if tied else "output.weight"],
    }


def renamed(file: FileValues, i: int, names: Mapping[str, str]) -> Arrays:
    return {f"layers.{i}.{name}": file[f"blk.{i}.{in_file}"] for name, in_file in names.items()}


def dense_ffn(file: FileValues, i: int, place: str = "mlp", suffix: str = "") -> Arrays:
    names = {f"{place}.{part}_proj.weight": f"ffn_{part}{suffix}.weight" for part in ("gate", "up", "down")}
    return renamed(file, i, names)


def expert_ffn(file: FileValues, i: int) -> Arrays:
    """Router and stacks; gate rows of an expert, then its up rows."""
    block, layer = f"blk.{i}.", f"layers.{i}.mlp."
    fused = f"{block}ffn_gate_up_exps.weight"
    pair = (
        file[fused]
        if fused in file
        else np.concatenate([file[f"{block}ffn_{part}_exps.weight"] for part in ("gate", "up")], axis=1)
    )
    return {
        f"{layer}gate.weight": file[f"{block}ffn_gate_inp.weight"],
        f"{layer}experts.gate_up_proj": pair,
        f"{layer}experts.down_proj": file[f"{block}ffn_down_exps.weight"],
    }


def shared_mixture(file: FileValues, i: int) -> Arrays:
    """GLM's and DeepSeek's: a bias that chooses, shared experts as one network."""
    arrays = expert_ffn(file, i) | dense_ffn(file, i, "mlp.shared_experts", "_shexp")
    bias = f"blk.{i}.exp_probs_b.bias"
    return arrays | ({f"layers.{i}.mlp.gate.e_score_correction_bias": file[bias]} if bias in file else {})


def common_config(file: FileValues, **changed: Any) -> dict[str, Any]:
    n_head = int(file.key("attention.head_count"))
    n_embd = int(file.key("embedding_length"))
    return {
        "vocab_size": int(file.key("vocab_size")),
        "hidden_size": n_embd,
        "intermediate_size": int(file.key("feed_forward_length")),
        "num_hidden_layers": file.n_layer,
        "num_attention_heads": n_head,
        "num_key_value_heads": int(file.key("attention.head_count_kv")),
        "head_dim": int(file.key("attention.key_length", n_embd // n_head)),
        "max_position_embeddings": int(file.key("context_length")),
        "rms_norm_eps": float(file.key("attention.layer_norm_rms_epsilon")),
        "rope_parameters": {"rope_type": "default", "rope_theta": float(file.key("rope.freq_base", 1e4))},
        "tie_word_embeddings": False,
        "pad_token_id": None,
    } | changed


def mixture_config(file: FileValues) -> dict[str, Any]:
    return {
        "num_experts_per_tok": int(file.key("expert_used_count")),
        "moe_intermediate_size": int(file.key("expert_feed_forward_length")),
    }


def shared_mixture_config(file: FileValues) -> dict[str, Any]:
    return mixture_config(file) | {
        "n_routed_experts": int(file.key("expert_count")),
        "n_shared_experts": int(file.key("expert_shared_count")),
        "first_k_dense_replace": int(file.key("leading_dense_block_count")),
        "routed_scaling_factor": float(file.key("expert_weights_scale", 1.0)),
        "norm_topk_prob": bool(file.key("expert_weights_norm", False)),
        "n_group": int(file.key("expert_group_count", 1)),
        "topk_group": int(file.key("expert_group_used_count", 1)),
    }


def qwen3(file: FileValues) -> tuple[Any, Arrays]:
    arrays = outer(file)
    for i in range(file.n_layer):
        arrays |= renamed(file, i, ATTENTION | HEAD_NORMS | FFN_NORM) | dense_ffn(file, i)
    return transformers.Qwen3Config(**common_config(file)), arrays


def qwen3moe(file: FileValues) -> tuple[Any, Arrays]:
    arrays = outer(file)
    for i in range(file.n_layer):
        arrays |= renamed(file, i, ATTENTION | HEAD_NORMS | FFN_NORM) | expert_ffn(file, i)
    n_expert = int(file.key("expert_count"))
    own = mixture_config(file) | {"num_experts": n_expert, "norm_topk_prob": True}
    return transformers.Qwen3MoeConfig(**common_config(file, **own)), arrays


def glm4moe(file: FileValues) -> tuple[Any, Arrays]:
    norms = HEAD_NORMS if "blk.0.attn_q_norm.weight" in file else {}
    names = ATTENTION | norms | BIASES | {"post_attention_layernorm.weight": "post_attention_norm.weight"}
    arrays, n_dense = outer(file), int(file.key("leading_dense_block_count"))
    for i in range(file.n_layer):
        arrays |= renamed(file, i, names) | (dense_ffn if i < n_dense else shared_mixture)(file, i)
    config = common_config(file, **shared_mixture_config(file), use_qk_norm=bool(norms), attention_bias=True)
    config["rope_parameters"]["partial_rotary_factor"] = (
        int(file.key("rope.dimension_count")) / config["head_dim"]
    )
    return transformers.Glm4MoeConfig(**config), arrays


def mistral3(file: FileValues) -> tuple[Any, Arrays]:
    """q and k rows lie as interleaved pairs in the file."""
    arrays, n_rot = outer(file), int(file.key("rope.dimension_count"))
    for i in range(file.n_layer):
        arrays |= renamed(file, i, ATTENTION | FFN_NORM) | dense_ffn(file, i)
        for x in "qk":
            rows = arrays[f"layers.{i}.self_attn.{x}_proj.weight"]
            pairs = rows.reshape(-1, n_rot // 2, 2, rows.shape[1])
            arrays[f"layers.{i}.self_attn.{x}_proj.weight"] = pairs.swapaxes(1, 2).reshape(rows.shape)
    config = common_config(file)
    config["rope_parameters"] |= yarn_parameters(file) | {
        "beta_fast": float(file.key("rope.scaling.yarn_beta_fast")),
        "beta_slow": float(file.key("rope.scaling.yarn_beta_slow")),
        "mscale": 1.0,
        "mscale_all_dim": float(file.key("rope.scaling.yarn_log_multiplier")),
        "llama_4_scaling_beta": float(file.key("attention.temperature_scale")),
    }
    return transformers.Ministral3Config(**config), arrays


def yarn_parameters(file: FileValues) -> dict[str, Any]:
    if file.key("rope.scaling.type", "none") != "yarn":
        return {}
    return {
        "rope_type": "yarn",
        "factor": float(file.key("rope.scaling.factor")),
        "original_max_position_embeddings": int(file.key("rope.scaling.original_context_length")),
    }


def gemma3(file: FileValues) -> tuple[Any, Arrays]:
    """Its norms multiply with weight + 1, which a file holds added up."""
    norms = {
        "post_attention_layernorm.weight": "post_attention_norm.weight",
        "pre_feedforward_layernorm.weight": "ffn_norm.weight",
        "post_feedforward_layernorm.weight": "post_ffw_norm.weight",
    }
    arrays = outer(file)
    for i in range(file.n_layer):
        arrays |= renamed(file, i, ATTENTION | HEAD_NORMS | norms) | dense_ffn(file, i)
    config = common_config(file, sliding_window=int(file.key("attention.sliding_window")))
    full = config["rope_parameters"]
    if file.key("rope.scaling.type") == "linear":
        full |= {"rope_type": "linear", "factor": float(file.key("rope.scaling.factor"))}
    local = {"rope_type": "default", "rope_theta": 10000.0}
    config["rope_parameters"] = {"full_attention": full, "sliding_attention": local}
    config |= {"query_pre_attn_scalar": config["head_dim"]}
    return transformers.Gemma3TextConfig(**config), without_one(arrays)


def without_one(arrays: Arrays, but: str = "no such name") -> Arrays:
    """Norms of checkpoints whose norm multiplies with weight + 1. but: the end of a name that is taken as it is."""
    return {
        name: values - 1.0 if name.endswith("norm.weight") and not name.endswith(but) else values
        for name, values in arrays.items()
    }
