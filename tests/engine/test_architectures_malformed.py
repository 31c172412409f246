"""Files of every architecture that lack a tensor, have one too many, or hold what is no number: one line each."""

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import pytest

from engine import ModelFileError
from engine.loading import load_model
from engine.loading.gguf_file import GGUFFile
from engine.loading.model_config import read_config
from engine.models import ARCHITECTURES
from kernels.ops import Ops
from support.architectures import MODELS
from support.architectures.random_file import RandomFile, draw_tensors, write_file
from support.gguf_writer import Tensor

#: The first model of each architecture.
FIRST = {model.architecture: name for name, model in reversed(MODELS.items())}
KNOWN = [FIRST[architecture] for architecture in ARCHITECTURES if architecture in FIRST]


def one_of_each_kind(model: RandomFile, path: Path) -> tuple[list[Tensor], list[Tensor]]:
    """All tensors of a file, and of each kind that a forward pass takes the last: others come before it."""
    tensors = draw_tensors(model)
    with GGUFFile.open(write_file(path, model, tensors)) as gguf:
        left_out = ARCHITECTURES[model.architecture].skipped(read_config(gguf))
    kinds = {re.sub(r"^blk\.\d+\.", "", tensor.name): tensor for tensor in tensors}
    taken = [t for t in kinds.values() if not any(fnmatchcase(t.name, pattern) for pattern in left_out)]
    return tensors, taken


def refusal(path: Path, model: RandomFile, tensors: Iterable[Tensor], ops: Ops) -> str | None:
    """The one line; None where the file is taken."""
    try:
        load_model(write_file(path, model, list(tensors)), ops)
    except ModelFileError as error:
        [line] = str(error).split("\n")
        return line
    return None


@pytest.mark.parametrize("name", KNOWN)
def test_a_missing_tensor_is_named(tmp_path: Path, cpu_ops: Ops, name: str) -> None:
    """But for an output matrix: the embedding's may stand in its place, except in models with latent attention."""
    tensors, kinds = one_of_each_kind(MODELS[name], tmp_path / "m.gguf")
    unasked = []
    for missing in kinds:
        others = (tensor for tensor in tensors if tensor is not missing)
        line = refusal(tmp_path / "m.gguf", MODELS[name], others, cpu_ops)
        if line is None:
            unasked.append(missing.name)
        else:
            assert f"'{missing.name}' is missing" in line
    assert unasked in ([], ["output.weight"])


@pytest.mark.parametrize("name", KNOWN)
def test_one_tensor_too_many_and_other_shapes_are_named(tmp_path: Path, cpu_ops: Ops, name: str) -> None:
    tensors, kinds = one_of_each_kind(MODELS[name], tmp_path / "m.gguf")
    extra = Tensor("blk.1.attn_sinks.weight", "F32", (4,), np.ones(4, "<f4").tobytes())
    line = refusal(tmp_path / "m.gguf", MODELS[name], [*tensors, extra], cpu_ops)
    assert line is not None
    assert "'blk.1.attn_sinks.weight'" in line
    for wrong in kinds:
        if wrong.name == "token_embd.weight":
            continue  # the vocabulary's size is asked before any shape
        shape, row = (*wrong.shape[:-1], wrong.shape[-1] - 1), len(wrong.data) // wrong.shape[-1]
        shorter = wrong._replace(shape=shape, data=wrong.data[:-row])
        others = (shorter if tensor is wrong else tensor for tensor in tensors)
        line = refusal(tmp_path / "m.gguf", MODELS[name], others, cpu_ops)
        assert line is not None, f"{wrong.name} of shape {shape} is taken"
        assert f"'{wrong.name}'" in line


@pytest.mark.parametrize("name", KNOWN)
def test_a_number_that_is_none_is_found_at_load(tmp_path: Path, cpu_ops: Ops, name: str) -> None:
    """In the last expert, state or head of each tensor alike."""
    tensors, kinds = one_of_each_kind(MODELS[name], tmp_path / "m.gguf")
    for wrong in kinds:
        broken = wrong._replace(data=wrong.data[:-4] + np.float32(np.nan).tobytes())
        others = (broken if tensor is wrong else tensor for tensor in tensors)
        line = refusal(tmp_path / "m.gguf", MODELS[name], others, cpu_ops)
        assert line is not None, f"NaN in {wrong.name} is taken"
        assert f"'{wrong.name}'" in line
