"""Keys that change what a model computes: one that an architecture does not read is refused if it asks for anything.

A key that stands in no table here is taken for one that changes nothing: converters write many of those.
"""

from typing import Any

import numpy as np

from engine.metadata_reader import MetadataReader

#: Name -> (the values that ask for nothing, what any other asks for). 0 is written for a scale that is not set.
_MEANINGS: dict[str, tuple[tuple[float, ...], str]] = {
    "expert_count": ((0,), "a mixture of experts"),
    "expert_shared_count": ((0,), "shared experts"),
    "expert_shared_feed_forward_length": ((0,), "shared experts"),
    "expert_gating_func": ((0,), "another choice of experts"),
    "expert_weights_scale": ((0, 1), "scaled weights of experts"),
    "expert_weights_norm": ((0,), "normalized weights of experts"),
    "expert_group_count": ((0, 1), "groups of experts"),
    "expert_group_used_count": ((0, 1), "groups of experts"),
    "expert_group_scale": ((0, 1), "scaled groups of experts"),
    "experts_per_group": ((0,), "groups of experts"),
    "moe_every_n_layers": ((0, 1), "experts in some layers"),
    "interleave_moe_layer_step": ((0, 1), "experts in some layers"),
    "moe_latent_size": ((0,), "experts of a compressed width"),
    "leading_dense_block_count": ((0,), "experts in some layers"),
    "router_logit_softcapping": ((0,), "a soft-capped router"),
    "swiglu_clamp_exp": ((0,), "clamped activations"),
    "swiglu_clamp_shexp": ((0,), "clamped activations"),
    "nextn_predict_layers": ((0,), "layers that predict further tokens"),
    "attention.causal": ((1,), "attention to later tokens"),
    "attention.clamp_kqv": ((0,), "clamped queries, keys and values"),
    "attention.max_alibi_bias": ((0,), "ALiBi positions"),
    "attention.scale": ((0,), "another scale of attention scores"),
    "attention.output_scale": ((0, 1), "a scaled output of attention"),
    "attention.temperature_length": ((0,), "attention scores scaled by position"),
    "attention.temperature_scale": ((0,), "attention scores scaled by position"),
    "attention.sliding_window": ((0,), "sliding windows"),
    "attention.sliding_window_pattern": ((0, 1), "sliding windows in some layers"),
    "attention.key_length_swa": ((), "sliding windows in some layers"),
    "attention.value_length_swa": ((), "sliding windows in some layers"),
    "attention.shared_kv_layers": ((0,), "layers that share keys and values"),
    "attention.q_lora_rank": ((0,), "compressed queries"),
    "attention.kv_lora_rank": ((0,), "compressed keys and values"),
    "attention.key_length_mla": ((0,), "compressed keys and values"),
    "attention.value_length_mla": ((0,), "compressed keys and values"),
    "attention.relative_buckets_count": ((0,), "relative positions"),
    "attn_logit_softcapping": ((0,), "soft-capped attention scores"),
    "final_logit_softcapping": ((0,), "soft-capped logits"),
    "embedding_scale": ((0, 1), "scaled embeddings"),
    "residual_scale": ((0, 1), "scaled residuals"),
    "logit_scale": ((0, 1), "scaled logits"),
    "embedding_length_per_layer_input": ((0,), "embeddings of each layer"),
    "full_attention_interval": ((0, 1), "linear attention in some layers"),
    "swin_norm": ((0,), "other places of the norms"),
    "use_parallel_residual": ((0,), "parallel residuals"),
    "rope.freq_base_swa": ((), "another rotation in some layers"),
    "rope.scaling.yarn_attn_factor": ((0, 1), "another yarn attention factor"),
    "rope.scaling.yarn_log_multiplier": ((0,), "another yarn attention factor"),
}
#: Beginnings of names, likewise.
_FAMILIES = {
    "ssm.": "a recurrent state",
    "wkv.": "a recurrent state",
    "kda.": "a recurrent state",
    "shortconv.": "short convolutions",
    "attention.indexer.": "sparse attention",
    "attention.compress": "compressed attention",
    "hyper_connection.": "hyper-connections",
    "altup.": "alternating updates",
    "ple.": "embeddings of n-grams",
    "xielu.": "another activation",
    "activation_sparsity": "sparse activations",
}


def refuse_unread(keys: MetadataReader) -> None:
    """Raises ModelFileError for a key that changes the answer and that the architecture has not read."""
    for name, value in keys.unread():
        neutral, meaning = _MEANINGS.get(name, ((), None))
        meaning = meaning or next((m for start, m in _FAMILIES.items() if name.startswith(start)), None)
        if meaning is not None and not _asks_for_nothing(value, neutral):
            raise keys.error(name, f"that means {meaning}, which this build does not run")


def _asks_for_nothing(value: Any, neutral: tuple[float, ...]) -> bool:
    values = value.tolist() if isinstance(value, np.ndarray) else value
    each = values if isinstance(values, list) else [values]
    return all(isinstance(v, int | float) and v in neutral for v in each)
