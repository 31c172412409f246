"""Tensor lists of published models: each tensor has a place or is left out by name; none may miss or be over."""

import math
import random
import re
from dataclasses import replace

import pytest

from engine.errors import ModelFileError
from engine.loading.gguf_file import GGUFFile
from engine.loading.model_config import read_config
from engine.loading.weight_plan import plan_weights
from engine.text.pre_tokenizers import PRE_TOKENIZERS
from support.published_models import NAMES, read_published, write_hollow

#: What may be left out, and why that changes no answer.
LEFT_OUT = {"a layer for predicting further tokens (MTP)"}


#: Without it a file is another model of the same architecture, and not a broken one: its embeddings are tied.
OPTIONAL = {"output.weight"}


@pytest.fixture(scope="module", params=NAMES)
def published(request, tmp_path_factory):
    """A list, an open file with its index, and the model's config."""
    model = read_published(request.param)
    path = write_hollow(model, tmp_path_factory.mktemp("hollow") / f"{model.name}.gguf")
    with GGUFFile.open(path) as gguf:
        yield model, gguf, read_config(gguf)
    path.unlink()


@pytest.mark.parametrize("name", NAMES)
def test_a_list_is_its_sources(name):
    """As many tensors as were counted there, and as many bytes in all."""
    model = read_published(name)
    assert len({tensor.name for tensor in model.tensors}) == len(model.tensors) == model.n_tensors
    scales = sum(
        4 * t.n_rows for t in model.tensors if t.type_name == "IQ4_KT" and not model.counts_row_scales
    )
    assert model.tensor_bytes in (None, sum(tensor.nbytes for tensor in model.tensors) - scales)
    assert next(t.shape[1] for t in model.tensors if t.name == "token_embd.weight") == model.n_tokens
    assert model.pre_tokenizer in PRE_TOKENIZERS
    assert set(model.sources) == {"tensors", "keys"}


def test_every_tensor_is_placed_or_left_out_by_name(published):
    _, gguf, config = published
    plan = plan_weights(gguf, config, {})
    not_run = {name for name in gguf.tensors if _layer(name) >= config.n_layer}
    assert not_run <= plan.skipped.keys() <= not_run | _twice(gguf.tensors)
    assert {plan.skipped[name] for name in not_run} <= LEFT_OUT
    matrices = {matrix.tensor.name for matrix in plan.matrices}
    vectors = gguf.tensors.keys() - matrices - plan.skipped.keys()
    assert all(gguf.tensors[name].type.name == "F32" for name in vectors)
    # Of a matrix that is loaded in parts (fused experts, queries beside gates) every number is in one of them.
    planned = sum(math.prod(matrix.shape) for matrix in plan.matrices)
    assert planned == sum(math.prod(gguf.tensors[name].shape) for name in matrices)


@pytest.mark.parametrize("most", [5, pytest.param(1000, marks=pytest.mark.slow)])
def test_each_kind_of_tensor_is_needed(published, most):
    """One of every name and shape taken away, from the last layer that has it: a line that names it."""
    model, gguf, config = published
    skipped, twice = plan_weights(gguf, config, {}).skipped, _twice(gguf.tensors)
    kinds = {(_kind(name), t.shape): name for name, t in gguf.tensors.items() if name not in skipped}
    for name in random.Random(model.name).sample([*kinds.values()], min(most, len(kinds))):
        with pytest.MonkeyPatch.context() as patch:
            patch.delitem(gguf.tensors, name)
            error = refusal(gguf, config)
        # Named in the form that newer files have: halves of kv_b, a bias where others have a weight.
        stem = name.rpartition(".")[0].replace("attn_kv_b", "attn_k_b")
        assert (error is not None and stem in error) or _kind(name) in OPTIONAL or name in twice, name
        assert error is None or "\n" not in error


def test_a_tensor_too_many_and_one_of_another_shape_are_named(published, monkeypatch):
    _, gguf, config = published
    name, tensor = next(item for item in gguf.tensors.items() if item[0].startswith("blk.0."))
    with monkeypatch.context() as patch:
        patch.setitem(gguf.tensors, "blk.0.attn_sinks.weight", tensor)
        assert "no part of" in str(refusal(gguf, config))
    wider = replace(tensor, shape=(tensor.shape[0] + 32, *tensor.shape[1:]))
    with monkeypatch.context() as patch:
        patch.setitem(gguf.tensors, name, wider)
        error = str(refusal(gguf, config))
    assert name in error
    assert "the hyperparameters give" in error


def test_a_qwen35_file_of_another_converter_is_read_too(tmp_path):
    """Three sections of the rotation in place of four, and a weight in place of ssm_dt's bias."""
    model = read_published("Qwen3.5-27B")
    keys = {**model.keys, "qwen35.rope.dimension_sections": [11, 11, 10]}
    tensors = tuple(t._replace(name=t.name.replace("ssm_dt.bias", "ssm_dt.weight")) for t in model.tensors)
    assert tensors != model.tensors
    path = write_hollow(replace(model, keys=keys, tensors=tensors), tmp_path / "m.gguf")
    with GGUFFile.open(path) as gguf:
        assert not plan_weights(gguf, read_config(gguf), {}).skipped


def _twice(names):
    """Names of what some files hold in two forms: kv_b, and its halves for absorbed attention."""
    halves = {name for name in names if name.endswith((".attn_k_b.weight", ".attn_v_b.weight"))}
    wholes = {name for name in names if name.endswith(".attn_kv_b.weight")}
    return halves | wholes if halves and wholes else set()


def refusal(gguf, config):
    """What the dry run says of a file; None where it finds all it needs."""
    try:
        plan_weights(gguf, config, {})
    except ModelFileError as error:
        return str(error)
    return None


def _layer(name):
    layer = re.match(r"blk\.(\d+)\.", name)
    return int(layer[1]) if layer else -1


def _kind(name):
    return re.sub(r"\d+", "N", name, count=1)
