"""Every architecture against an independent implementation: transformers on the same random weights.

Here against logits that it left in tests/data (`make golden` writes them); test_models_oracle.py asks it live.
Only on the CPU backend: that the backends agree is tested elsewhere, and the reference takes minutes for this.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine import ModelFileError
from engine.loading import LoadedModel, load_model
from kernels.ops import Ops
from support.forward_pass import logits_of
from support.gguf_writer import Tensor
from support.random_models import (
    FLOAT_LIMIT,
    GOLDEN,
    GOLDEN_POSITIONS,
    INT8_LIMIT,
    SHAPES,
    TOKEN_IDS,
    Shape,
    as_floats,
    difference,
    digest,
    draw,
    write,
)
from support.tiny_models import write_tiny_llama


def loaded_with(path: Path, ops: Ops, shape: Shape, weights: Any, **options: Any) -> LoadedModel:
    return load_model(write(path, shape, weights, **options), ops)


def golden_difference(loaded: LoadedModel, name: str) -> float:
    got = logits_of(loaded, TOKEN_IDS.tolist())[list(GOLDEN_POSITIONS)]
    with np.load(GOLDEN) as golden:
        return difference(got, golden[name])


@pytest.mark.parametrize("name", SHAPES)
def test_the_forward_pass_agrees_with_transformers(tmp_path: Path, cpu_ops: Ops, name: str) -> None:
    shape = SHAPES[name]
    weights = draw(shape)
    with np.load(GOLDEN) as golden:
        assert digest(weights) == str(golden[f"{name}: weights"]), "other random weights: run `make golden`"
    limit = INT8_LIMIT if shape.types else FLOAT_LIMIT
    assert golden_difference(loaded_with(tmp_path / "m.gguf", cpu_ops, shape, weights), name) < limit
    if shape.types:  # the same numbers as F32 matrices: what int8 activations add is all that was between
        floats = loaded_with(tmp_path / "f.gguf", cpu_ops, shape, as_floats(weights))
        assert golden_difference(floats, name) < FLOAT_LIMIT


@pytest.mark.parametrize(
    "name", [name for name, shape in SHAPES.items() if shape.rope or shape.freq_base > 1e4]
)
def test_the_limit_would_notice_another_rotation(tmp_path: Path, cpu_ops: Ops, name: str) -> None:
    """The same weights without the file's scaling and base are far away: positions matter in these models."""
    dropped = ("rope.scaling.type", "rope.scaling.factor", "rope.freq_base")
    loaded = loaded_with(tmp_path / "m.gguf", cpu_ops, SHAPES[name], draw(SHAPES[name]), drop_keys=dropped)
    assert golden_difference(loaded, name) > 100 * FLOAT_LIMIT


def test_chunks_of_a_window_long_text_change_nothing(tmp_path: Path, cpu_ops: Ops) -> None:
    for architecture in ("qwen2", "qwen3"):
        shape = SHAPES[f"{architecture} in KT types"]
        loaded = loaded_with(tmp_path / "m.gguf", cpu_ops, shape, draw(shape))
        whole = logits_of(loaded, TOKEN_IDS.tolist())
        cut = logits_of(loaded, TOKEN_IDS.tolist(), cuts=(1, 7, 256, 257))
        assert (whole.view(np.uint32) == cut.view(np.uint32)).all()


def test_a_sliding_window_holds_requests_to_where_it_does_not_matter(tmp_path: Path, cpu_ops: Ops) -> None:
    window = {"llama.attention.sliding_window": 100}
    loaded = load_model(write_tiny_llama(tmp_path / "m.gguf", n_ctx=512, metadata=window), cpu_ops)
    assert loaded.config.n_ctx_max == 100
    [note] = loaded.notes
    assert "100 tokens of the 512" in note
    window["llama.attention.sliding_window"] = 512
    loaded = load_model(write_tiny_llama(tmp_path / "m.gguf", n_ctx=512, metadata=window), cpu_ops)
    assert (loaded.config.n_ctx_max, loaded.notes) == (512, ())


@pytest.mark.parametrize(
    ("key", "value"),
    [("expert_count", 8), ("attention.causal", False), ("logit_scale", 0.5), ("attention.clamp_kqv", 8.0),
     ("final_logit_softcapping", 30.0), ("attention.scale", [1.0]), ("rope.scaling.yarn_log_multiplier", 0.1),
     ("rope.scaling.type", "longrope")],
)  # fmt: skip
def test_keys_that_change_the_answer_and_are_not_honoured_are_refused(
    tmp_path: Path, cpu_ops: Ops, key: str, value: Any
) -> None:
    path = write_tiny_llama(tmp_path / "m.gguf", metadata={f"llama.{key}": value})
    with pytest.raises(ModelFileError, match=f"llama.{key}"):
        load_model(path, cpu_ops)


def test_keys_that_ask_for_nothing_are_taken(tmp_path: Path, cpu_ops: Ops) -> None:
    neutral = {"expert_count": 0, "attention.causal": True, "logit_scale": 1.0, "attention.scale": 0.0}
    metadata = {f"llama.{key}": value for key, value in neutral.items()}
    assert load_model(write_tiny_llama(tmp_path / "m.gguf", metadata=metadata), cpu_ops).notes == ()


def ones(name: str, n: int) -> Tensor:
    return Tensor(name, "F32", (n,), np.ones(n, "<f4").tobytes())


@pytest.mark.parametrize(
    "name", ["blk.0.attn_q_norm.weight", "blk.2.attn_norm.weight", "output.bias", "a b\n"]
)
def test_a_tensor_that_the_model_would_leave_out_is_refused(tmp_path: Path, cpu_ops: Ops, name: str) -> None:
    """Without it the answers would be others than the file's author had."""
    path = write_tiny_llama(tmp_path / "m.gguf", extra_tensors=(ones(name, 256),))
    with pytest.raises(ModelFileError, match=r"^[^\n]*at byte \d+: is no part of llama[^\n]*$"):
        load_model(path, cpu_ops)


def test_known_copies_are_left_out_in_words(tmp_path: Path, cpu_ops: Ops) -> None:
    extras = (ones("output_extra.weight", 256), ones("blk.0.attn_rot_embd.weight", 16))
    loaded = load_model(write_tiny_llama(tmp_path / "m.gguf", extra_tensors=extras), cpu_ops)
    assert [note.split(" ")[1] for note in loaded.notes] == [tensor.name for tensor in extras]
    assert "second copy of the output matrix" in loaded.notes[0]


def test_wrong_files_are_refused_before_anything_is_loaded(tmp_path: Path, cpu_ops: Ops) -> None:
    path = write_tiny_llama(tmp_path / "m.gguf", extra_tensors=(ones("output.bias", 256),))
    told: list[tuple[int, int]] = []
    with pytest.raises(ModelFileError):
        load_model(path, cpu_ops, progress=lambda done, total: told.append((done, total)))
    assert told == []


def test_qwen2_without_its_biases_is_not_qwen2(tmp_path: Path, cpu_ops: Ops) -> None:
    weights = draw(SHAPES["qwen2"])
    del weights["model.layers.1.self_attn.k_proj.bias"]
    with pytest.raises(ModelFileError, match=r"'blk.1.attn_k.bias' is missing"):
        loaded_with(tmp_path / "m.gguf", cpu_ops, SHAPES["qwen2"], weights)
