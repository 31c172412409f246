"""Checkpoints of architectures with one latent row a token: DeepSeek V2 and V3, GLM-5."""

from typing import Any

import numpy as np
import transformers

from support.checkpoints.file_values import FileValues
from support.checkpoints.grouped_query import (
    Arrays,
    common_config,
    dense_ffn,
    outer,
    renamed,
    shared_mixture,
    shared_mixture_config,
    yarn_parameters,
)

NAMES = {
    "input_layernorm.weight": "attn_norm.weight",
    "post_attention_layernorm.weight": "ffn_norm.weight",
    "self_attn.kv_a_proj_with_mqa.weight": "attn_kv_a_mqa.weight",
    "self_attn.kv_a_layernorm.weight": "attn_kv_a_norm.weight",
    "self_attn.o_proj.weight": "attn_output.weight",
}
QUERY_LATENT = {
    "self_attn.q_a_proj.weight": "attn_q_a.weight",
    "self_attn.q_a_layernorm.weight": "attn_q_a_norm.weight",
    "self_attn.q_b_proj.weight": "attn_q_b.weight",
}
INDEXER = {
    "self_attn.indexer.wq_b.weight": "indexer.attn_q_b.weight",
    "self_attn.indexer.wk.weight": "indexer.attn_k.weight",
    "self_attn.indexer.k_norm.weight": "indexer.k_norm.weight",
    "self_attn.indexer.k_norm.bias": "indexer.k_norm.bias",
    "self_attn.indexer.weights_proj.weight": "indexer.proj.weight",
}


def deepseek2(file: FileValues) -> tuple[Any, Arrays]:
    """V2 where experts are chosen by softmax, V3 by sigmoid; a file that does not say is V2's."""
    config = _config(file)
    if int(file.key("expert_gating_func", 1)) == 2:
        return transformers.DeepseekV3Config(**config), _arrays(file)
    config["topk_method"] = "greedy"
    return transformers.DeepseekV2Config(**config), _arrays(file)


def glm_dsa(file: FileValues) -> tuple[Any, Arrays]:
    """A layer without an indexer takes the choice of the one before it."""
    own = [i for i in range(file.n_layer) if f"blk.{i}.indexer.proj.weight" in file]
    config = _config(file) | {
        "index_topk": int(file.key("attention.indexer.top_k")),
        "index_head_dim": int(file.key("attention.indexer.key_length")),
        "index_n_heads": int(file.key("attention.indexer.head_count")),
        "indexer_types": ["full" if i in own else "shared" for i in range(file.n_layer)],
    }
    arrays = _arrays(file)
    for i in own:
        arrays |= renamed(file, i, INDEXER)
    return transformers.GlmMoeDsaConfig(**config), arrays


def _widths(file: FileValues) -> tuple[int, int]:
    """Of a head's query without its rotated part, and of its value."""
    key = file.key("attention.key_length_mla", file.key("attention.key_length"))
    value = file.key("attention.value_length_mla", file.key("attention.value_length"))
    return int(key) - int(file.key("rope.dimension_count")), int(value)


def _config(file: FileValues) -> dict[str, Any]:
    nope, value = _widths(file)
    q_lora = file.key("attention.q_lora_rank")
    config = common_config(file, **shared_mixture_config(file)) | {
        "num_key_value_heads": int(file.key("attention.head_count")),
        "kv_lora_rank": int(file.key("attention.kv_lora_rank")),
        "q_lora_rank": None if q_lora is None else int(q_lora),
        "qk_rope_head_dim": int(file.key("rope.dimension_count")),
        "qk_nope_head_dim": nope,
        "v_head_dim": value,
    }
    config["head_dim"] = config["qk_rope_head_dim"]
    yarn = yarn_parameters(file)
    if yarn:
        mscale = round(10 * float(file.key("rope.scaling.yarn_log_multiplier")), 6)
        config["rope_parameters"] |= yarn | {"mscale": mscale, "mscale_all_dim": mscale}
    return config


def _arrays(file: FileValues) -> Arrays:
    arrays, n_dense = outer(file), int(file.key("leading_dense_block_count"))
    for i in range(file.n_layer):
        lora = f"blk.{i}.attn_q_a.weight" in file
        query = QUERY_LATENT if lora else {"self_attn.q_proj.weight": "attn_q.weight"}
        arrays |= renamed(file, i, NAMES | query)
        arrays[f"layers.{i}.self_attn.kv_b_proj.weight"] = _kv_b(file, f"blk.{i}.")
        arrays |= (dense_ffn if i < n_dense else shared_mixture)(file, i)
    return arrays


def _kv_b(file: FileValues, block: str) -> np.ndarray:
    """Per head its key rows, then its value rows; a split file holds the key rows transposed."""
    if f"{block}attn_kv_b.weight" in file:
        return file[f"{block}attn_kv_b.weight"]
    n_head = int(file.key("attention.head_count"))
    k_b, v_b = file[f"{block}attn_k_b.weight"], file[f"{block}attn_v_b.weight"]
    k_b = k_b.reshape(n_head, -1, k_b.shape[-1]).swapaxes(1, 2)
    heads = np.concatenate([k_b, v_b.reshape(n_head, -1, v_b.shape[-1])], axis=1)
    return heads.reshape(-1, heads.shape[-1])
