"""Checkpoints of qwen35 and qwen35moe."""

from collections.abc import Callable
from typing import Any

import numpy as np
import transformers

from support.checkpoints.file_values import FileValues
from support.checkpoints.grouped_query import (
    ATTENTION,
    HEAD_NORMS,
    Arrays,
    common_config,
    dense_ffn,
    expert_ffn,
    mixture_config,
    outer,
    renamed,
    without_one,
)


def qwen35(file: FileValues) -> tuple[Any, Arrays]:
    return transformers.Qwen3_5TextConfig(**_config(file)), _arrays(file, dense_ffn)


def qwen35moe(file: FileValues) -> tuple[Any, Arrays]:
    own = mixture_config(file) | {
        "num_experts": int(file.key("expert_count")),
        "shared_expert_intermediate_size": int(file.key("expert_shared_feed_forward_length")),
    }
    config = _config(file) | own
    del config["intermediate_size"]
    return transformers.Qwen3_5MoeTextConfig(**config), _arrays(file, _gated_mixture)


def _config(file: FileValues) -> dict[str, Any]:
    config = common_config(file)
    n_v_head = int(file.key("ssm.time_step_rank"))
    config["rope_parameters"] |= {
        "partial_rotary_factor": int(file.key("rope.dimension_count")) / config["head_dim"],
        "mrope_section": [int(n) for n in file.key("rope.dimension_sections")[:3]],
    }
    return config | {
        "linear_conv_kernel_dim": int(file.key("ssm.conv_kernel")),
        "linear_key_head_dim": int(file.key("ssm.state_size")),
        "linear_value_head_dim": int(file.key("ssm.inner_size")) // n_v_head,
        "linear_num_key_heads": int(file.key("ssm.group_count")),
        "linear_num_value_heads": n_v_head,
        "layer_types": [
            "linear_attention" if f"blk.{i}.ssm_a" in file else "full_attention" for i in range(file.n_layer)
        ],
    }


def _arrays(file: FileValues, ffn: Callable[[FileValues, int], Arrays]) -> Arrays:
    arrays = outer(file)
    for i in range(file.n_layer):
        arrays |= renamed(file, i, {"post_attention_layernorm.weight": "post_attention_norm.weight"})
        arrays |= ffn(file, i)
        linear = f"blk.{i}.ssm_a" in file
        arrays |= _delta_net(file, i) if linear else renamed(file, i, ATTENTION | HEAD_NORMS)
    return without_one(arrays, but="linear_attn.norm.weight")


def _delta_net(file: FileValues, i: int) -> Arrays:
    """A file's v head j * n_k + k is the checkpoint's k * (n_v / n_k) + j."""
    block, layer = f"blk.{i}.", f"layers.{i}.linear_attn."
    n_k, n_v = int(file.key("ssm.group_count")), int(file.key("ssm.time_step_rank"))
    width = int(file.key("ssm.inner_size")) // n_v
    head = np.arange(n_v).reshape(n_v // n_k, n_k).T.ravel()  # file's head of each of the checkpoint's
    rows = (head[:, None] * width + np.arange(width)).ravel()
    n_qk = 2 * n_k * int(file.key("ssm.state_size"))
    channels = np.concatenate([np.arange(n_qk), n_qk + rows])
    return {
        f"layers.{i}.input_layernorm.weight": file[f"{block}attn_norm.weight"],
        f"{layer}in_proj_qkv.weight": file[f"{block}attn_qkv.weight"][channels],
        f"{layer}in_proj_z.weight": file[f"{block}attn_gate.weight"][rows],
        f"{layer}in_proj_a.weight": file[f"{block}ssm_alpha.weight"][head],
        f"{layer}in_proj_b.weight": file[f"{block}ssm_beta.weight"][head],
        f"{layer}dt_bias": file[f"{block}ssm_dt.bias"][head],
        f"{layer}A_log": np.log(-file[f"{block}ssm_a"])[head],
        f"{layer}conv1d.weight": file[f"{block}ssm_conv1d.weight"][channels][:, None],
        f"{layer}norm.weight": file[f"{block}ssm_norm.weight"],
        f"{layer}out_proj.weight": file[f"{block}ssm_out.weight"][:, rows],
    }


def _gated_mixture(file: FileValues, i: int) -> Arrays:
    gate = file[f"blk.{i}.ffn_gate_inp_shexp.weight"]
    shared = dense_ffn(file, i, "mlp.shared_expert", "_shexp")
    return expert_ffn(file, i) | shared | {f"layers.{i}.mlp.shared_expert_gate.weight": gate.reshape(1, -1)}
