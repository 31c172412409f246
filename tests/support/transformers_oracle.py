"""The independent implementation: the same weights in Hugging Face's transformers, on CPU torch in float64.

Needs the `oracle` extra. `make golden` (this file as a script) writes tests/data/model_logits.npz anew: for each
of random_models.SHAPES a digest of its weights and the logits of a few positions.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import transformers

from support.random_models import (
    GOLDEN,
    GOLDEN_POSITIONS,
    N_CTX,
    N_VOCAB,
    SHAPES,
    TOKEN_IDS,
    Shape,
    Weight,
    digest,
    draw,
    plain,
)

torch.set_num_threads(1)  # small matrices; more threads only wait for each other


class HalfCache(transformers.DynamicCache):
    """Keys and values rounded to f16, as Espalier's cache holds them, so that this rounding is no difference."""

    def update(self, key_states: Any, value_states: Any, *args: Any, **kwargs: Any) -> Any:
        return super().update(key_states.half().double(), value_states.half().double(), *args, **kwargs)


def oracle_logits(shape: Shape, weights: Mapping[str, Weight], token_ids: np.ndarray) -> np.ndarray:
    """float64 [n_tokens, n_vocab]. Quantized matrices enter as the plain numbers they stand for."""
    model = _loaded(shape, weights)
    with torch.no_grad():
        return model(torch.from_numpy(token_ids)[None], cache=HalfCache()).logits[0].numpy()


def oracle_hidden(shape: Shape, weights: Mapping[str, Weight], token_ids: np.ndarray) -> np.ndarray:
    """The normed hidden states that the logits are made from: float64 [n_tokens, n_embd]."""
    inner = _loaded(shape, weights).model
    with torch.no_grad():
        output = inner(torch.from_numpy(token_ids)[None], cache=HalfCache())
    return output.last_hidden_state[0].numpy()


def _loaded(shape: Shape, weights: Mapping[str, Weight]) -> Any:
    model = _model(shape)
    state = {name: torch.from_numpy(plain(name, weight)) for name, weight in weights.items()}
    if shape.tied:
        state["lm_head.weight"] = state["model.embed_tokens.weight"]
    model.load_state_dict(state, strict=True)
    return model


def _model(shape: Shape) -> Any:
    common: dict[str, Any] = {
        "vocab_size": N_VOCAB,
        "hidden_size": shape.n_embd,
        "intermediate_size": shape.n_ff,
        "num_hidden_layers": shape.n_layer,
        "num_attention_heads": shape.n_head,
        "num_key_value_heads": shape.n_head_kv,
        "head_dim": shape.head_dim,
        "max_position_embeddings": N_CTX,
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": shape.tied,
        "rope_parameters": {"rope_type": "default", "rope_theta": shape.freq_base} | dict(shape.rope),
        "attn_implementation": "eager",
    }
    if shape.architecture == "qwen2":
        config: Any = transformers.Qwen2Config(**common)
    elif shape.architecture == "qwen3":
        config = transformers.Qwen3Config(**common)
    elif shape.sliding_window is not None:
        config = transformers.MistralConfig(**common, sliding_window=shape.sliding_window)
    else:
        config = transformers.LlamaConfig(**common, attention_bias=shape.biases, mlp_bias=shape.biases)
    return transformers.AutoModelForCausalLM.from_config(config).double().eval()


def write_golden() -> None:
    arrays = {}
    for name, shape in SHAPES.items():
        weights = draw(shape)
        logits = oracle_logits(shape, weights, TOKEN_IDS)[list(GOLDEN_POSITIONS)]
        arrays[name] = logits.astype(np.float32)
        arrays[f"{name}: weights"] = np.array(digest(weights))
    np.savez_compressed(GOLDEN, **arrays)


if __name__ == "__main__":
    write_golden()
