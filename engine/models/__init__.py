"""One architecture, one file. ARCHITECTURES maps `general.architecture` to the builder of its model.

A model object offers `forward(ops, batch, kv) -> [n_rows, n_embd]` and
`logits(ops, hidden) -> [n_rows, n_vocab]`.
"""

from collections.abc import Callable
from typing import Any

from engine.models.llama import build_llama

#: name -> builder(config: ModelConfig, weights: WeightSource) -> model
ARCHITECTURES: dict[str, Callable[[Any, Any], Any]] = {"llama": build_llama}
