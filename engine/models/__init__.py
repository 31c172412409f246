"""One architecture, one file. ARCHITECTURES maps `general.architecture` to the builder of its model.

A model object offers `forward(ops, batch, kv) -> [n_rows, n_embd]` and
`logits(ops, hidden) -> [n_rows, n_vocab]`.
"""

from collections.abc import Callable
from typing import Any

from engine.models.llama import build_llama
from engine.models.qwen2 import build_qwen2
from engine.models.qwen3 import build_qwen3

#: name -> builder(config: ModelConfig, weights: WeightSource) -> model
ARCHITECTURES: dict[str, Callable[[Any, Any], Any]] = {
    "llama": build_llama,
    "qwen2": build_qwen2,
    "qwen3": build_qwen3,
}
