"""A GGUF file as the Hugging Face checkpoint that a converter makes such a file from, run by transformers.

Each conversion is undone: + 1 on norms, -exp on A_log, the order of v heads, the squeezed convolution, gate and up
of experts apart, k_b and v_b apart. What a file lacks for its class, or has beyond, is an error. Needs the `oracle`
extra; `python -m support.checkpoints` (in `make golden`) writes the logits of support/architectures anew.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
import transformers

from support.checkpoints.delta_net import qwen35, qwen35moe
from support.checkpoints.file_values import FileValues
from support.checkpoints.grouped_query import gemma3, glm4moe, mistral3, qwen3, qwen3moe
from support.checkpoints.latent import deepseek2, glm_dsa
from support.gguf_writer import Tensor

#: Architecture -> (its config, float64 arrays by checkpoint name without `model.`)
CONVERSIONS: Mapping[str, Callable[[FileValues], tuple[Any, dict[str, np.ndarray]]]] = {
    "qwen3moe": qwen3moe,
    "qwen3vl": qwen3,
    "qwen3vlmoe": qwen3moe,
    "qwen35": qwen35,
    "qwen35moe": qwen35moe,
    "glm4moe": glm4moe,
    "deepseek2": deepseek2,
    "glm-dsa": glm_dsa,
    "mistral3": mistral3,
    "gemma3": gemma3,
}

torch.set_num_threads(1)


class HalfCache(transformers.DynamicCache):
    """Keys and values, or latents and rotated parts, rounded to f16 as Espalier's cache has them."""

    def update(self, key_states: Any, value_states: Any, *args: Any, **kwargs: Any) -> Any:
        return super().update(key_states.half().double(), value_states.half().double(), *args, **kwargs)


class Checkpoint:
    """A file's model in transformers, float64, on the CPU."""

    def __init__(self, metadata: Mapping[str, Any], tensors: Iterable[Tensor]) -> None:
        file = FileValues(metadata, tensors)
        config, arrays = CONVERSIONS[file.architecture](file)
        config._attn_implementation = config._experts_implementation = "eager"  # any type of numbers
        state = {f"model.{name}": torch.from_numpy(np.ascontiguousarray(a)) for name, a in arrays.items()}
        state["lm_head.weight"] = state.pop("model.lm_head.weight")
        self.unused = file.unused()
        self._model = transformers.AutoModelForCausalLM.from_config(config).double().eval()
        self._model.load_state_dict(state, strict=True)

    def logits(self, token_ids: np.ndarray, half_cache: bool = True) -> np.ndarray:
        """float64 [n_tokens, n_vocab]. half_cache: what the cache holds is rounded to f16."""
        kind = HalfCache if half_cache else transformers.DynamicCache
        with torch.no_grad():
            cache = kind(config=self._model.config)
            return self._model(torch.from_numpy(token_ids)[None], cache=cache).logits[0].numpy()
