"""Architectures beyond llama, qwen2 and qwen3 against transformers on the same random files.

Here against logits that it left in tests/data (`make golden` writes them); test_architectures_oracle.py asks it live.
A file of support/architectures is tested from the day on which the engine knows its architecture.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine import ModelFileError
from engine.loading import LoadedModel, load_model
from engine.models import ARCHITECTURES
from engine.models.gemma3 import Gemma3Config
from kernels import load_backend
from kernels.ops import Ops
from support.architectures import GOLDEN, MODELS
from support.architectures.random_file import as_float_tensors, draw_tensors, tensors_digest, write_file
from support.forward_pass import logits_of
from support.gguf_writer import Tensor
from support.random_models import FLOAT_LIMIT, GOLDEN_POSITIONS, PLANES_LIMIT, TOKEN_IDS, difference

KNOWN = [name for name, model in MODELS.items() if model.architecture in ARCHITECTURES]
#: A key that is read wrongly, or not at all, must show in these models: key -> another value.
TURNED = {
    "qwen3moe": {"rope__freq_base": 1e5, "expert_used_count": 2},
    "qwen3vl": {"rope__freq_base": 1e5},
    "qwen35": {"rope__freq_base": 1e6, "rope__dimension_count": 16},
    "qwen35moe": {"expert_used_count": 2},
    "glm4moe": {"expert_weights_scale": 2.0, "expert_weights_norm": False, "rope__dimension_count": 32},
    "deepseek2 Lite": {"rope__scaling__yarn_log_multiplier": 0.1, "expert_weights_norm": True},
    "deepseek2 V3": {"expert_group_used_count": 3, "expert_gating_func": 3, "rope__scaling__factor": 8.0},
    "glm-dsa": {"expert_weights_scale": 1.0},
    "glm-dsa, sparse, a layer of MTP": {"attention__indexer__top_k": 512},
    "mistral3": {"attention__temperature_scale": 0.2, "rope__scaling__original_context_length": 32},
    "gemma3": {"attention__sliding_window": 41, "rope__scaling__factor": 4.0},
}


@pytest.fixture(scope="module")
def two_planes() -> Ops:
    """Activations of 15 bits or so: what quantized models need to come near float ones."""
    return load_backend("cpu", threads=2, planes=2)


def loaded_with(
    folder: Path, ops: Ops, name: str, tensors: list[Tensor] | None = None, **changed: Any
) -> LoadedModel:
    model = MODELS[name]
    return load_model(write_file(folder / "m.gguf", model, tensors or draw_tensors(model), **changed), ops)


def golden_difference(loaded: LoadedModel, name: str) -> float:
    """Over the positions that the engine runs: a model may be exact up to fewer tokens than its file allows."""
    n_tokens = min(len(TOKEN_IDS), loaded.config.n_ctx_max)
    got = logits_of(loaded, TOKEN_IDS[:n_tokens].tolist())
    positions = [position for position in GOLDEN_POSITIONS if position < n_tokens]
    with np.load(GOLDEN) as golden:
        return difference(got[positions], golden[name][: len(positions)])


@pytest.mark.parametrize("name", MODELS)
def test_the_stored_logits_are_those_of_the_files_that_are_written(name: str) -> None:
    with np.load(GOLDEN) as golden:
        digest = str(golden[f"{name}: tensors"])
    assert tensors_digest(draw_tensors(MODELS[name])) == digest, "other random weights: run `make golden`"


@pytest.mark.parametrize("name", KNOWN)
def test_the_forward_pass_agrees_with_transformers(tmp_path: Path, two_planes: Ops, name: str) -> None:
    """Quantized weights also as the F32 matrices that they stand for: activations are all that was between."""
    floats = as_float_tensors(draw_tensors(MODELS[name]))
    assert golden_difference(loaded_with(tmp_path, two_planes, name, floats), name) < FLOAT_LIMIT
    if MODELS[name].types:
        assert golden_difference(loaded_with(tmp_path, two_planes, name), name) < PLANES_LIMIT


@pytest.mark.parametrize(("name", "key"), [(name, key) for name in KNOWN for key in TURNED.get(name, ())])
def test_the_limit_would_notice_another_hyperparameter(
    tmp_path: Path, two_planes: Ops, name: str, key: str
) -> None:
    loaded = loaded_with(tmp_path, two_planes, name, **{key: TURNED[name][key]})
    assert golden_difference(loaded, name) > 10 * FLOAT_LIMIT


def test_a_table_of_temperatures_without_bounds_is_refused(tmp_path: Path, two_planes: Ops) -> None:
    keys = {"context_length": 1 << 30, "rope__scaling__original_context_length": 1}
    with pytest.raises(ModelFileError, match=r"original_context_length.*: is 1; a larger part"):
        loaded_with(tmp_path, two_planes, "mistral3", **keys)


def test_the_largest_gemma_s_scores_have_a_scale_of_their_own(tmp_path: Path, two_planes: Ops) -> None:
    """1 / sqrt(n_embd / n_head), 168 in the 27B: its 62 layers tell it, no key does."""
    config = loaded_with(tmp_path, two_planes, "gemma3").config
    assert isinstance(config, Gemma3Config)
    assert config.score_scale == pytest.approx(32**-0.5)
    largest = replace(config, n_layer=62, n_embd=5376, n_head=32, head_dim=128)
    assert largest.score_scale == pytest.approx(168**-0.5)
