"""The architectures that a GGUF file may name in `general.architecture`, each in a file of its own."""

from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, NamedTuple

from engine.metadata_reader import MetadataReader
from engine.models import deepseek2, gemma3, glm4moe, glm_dsa, llama, mistral3, qwen2, qwen3, qwen3moe, qwen35
from engine.models.config import ModelConfig, read_dense_config
from engine.models.model import Model
from engine.models.weight_source import WeightSource


class Architecture(NamedTuple):
    """How one architecture is read and built. about: a line that says what it is."""

    about: str
    read_config: Callable[[MetadataReader], Any]  # -> the ModelConfig that `build` takes
    build: Callable[[Any, WeightSource], Model]
    #: Tensors that a forward pass leaves out: pattern of names -> what they are.
    skipped: Callable[[Any], Mapping[str, str]] = lambda config: {}


def _of(module: ModuleType, read_config: Callable[[MetadataReader], Any] | None = None) -> Architecture:
    """What a file in this folder says: its first line and `build`; `read_config` and `skipped` if it has them."""
    about = (module.__doc__ or "").partition("\n")[0].removesuffix(".")
    skipped = [module.skipped] if hasattr(module, "skipped") else []
    return Architecture(about, read_config or module.read_config, module.build, *skipped)


ARCHITECTURES: dict[str, Architecture] = {
    "llama": _of(llama, read_dense_config),
    "qwen2": _of(qwen2, read_dense_config),
    "qwen3": _of(qwen3, read_dense_config),
    "qwen3vl": _of(qwen3, read_dense_config)._replace(about="Qwen3-VL, dense: its text part, which is qwen3"),
    "qwen3moe": _of(qwen3moe),
    "qwen3vlmoe": _of(qwen3moe)._replace(
        about="Qwen3-VL, mixtures of experts: its text part, which is qwen3moe"
    ),
    "qwen35": _of(qwen35)._replace(
        about="Qwen3.5 to 3.8, dense: gated delta nets, every fourth layer attends"
    ),
    "qwen35moe": _of(qwen35, qwen35.read_moe_config)._replace(
        about="Qwen3.5 to 3.8 with experts: the layers of qwen35, a shared expert that a sigmoid scales"
    ),
    "glm4moe": _of(glm4moe),
    "deepseek2": _of(deepseek2),
    "glm-dsa": _of(glm_dsa),
    "mistral3": _of(mistral3),
    "gemma3": _of(gemma3),
}


def build_model(config: ModelConfig, weights: WeightSource) -> Model:
    """Raises ModelFileError for a missing tensor or a shape that the hyperparameters do not give."""
    return ARCHITECTURES[config.architecture].build(config, weights)
