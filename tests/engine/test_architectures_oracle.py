"""Architectures beyond llama, qwen2 and qwen3 against transformers, live, on fresh weights and on the shared files.

`make test-slow` installs both.
"""

import json
import os
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.loading import load_model
from engine.models import ARCHITECTURES
from kernels import load_backend
from support.architectures import GOLDEN, MODELS
from support.architectures.random_file import RandomFile, draw_tensors, write_file
from support.architectures.random_shapes import random_file
from support.forward_pass import logits_of
from support.gguf_writer import contents
from support.random_models import FLOAT_LIMIT, GOLDEN_POSITIONS, N_VOCAB, PLANES_LIMIT, TOKEN_IDS, difference

pytestmark = pytest.mark.slow
KNOWN = [name for name, model in MODELS.items() if model.architecture in ARCHITECTURES]


#: Every run makes the same attempts; another number makes others, of which a few meet experts that are nearly equal.
ATTEMPT = os.environ.get("ESPALIER_ORACLE_ATTEMPT", "0")


def seed_of(what: str) -> int:
    return zlib.crc32(f"{ATTEMPT} {what}".encode())


@pytest.fixture(scope="module")
def checkpoint():
    """A fixture, as the other tests of this suite must be collected where torch is not installed."""
    from support.checkpoints import Checkpoint

    return Checkpoint


def check(tmp_path: Path, checkpoint: Any, model: RandomFile, seed: int) -> None:
    """In half of the rows of two of three texts. Others are up to 2e-3 off: keys on the edge between two f16 numbers
    under sharp attention. And where two experts are so near each other that a rounding changes the choice of an early
    token, all that attend to it are.
    """
    rng, tensors = np.random.default_rng(seed), draw_tensors(model, seed)
    limit = PLANES_LIMIT if model.types else FLOAT_LIMIT
    loaded = load_model(write_file(tmp_path / "m.gguf", model, tensors), load_backend("cpu", planes=2))
    judge, medians = checkpoint(model.metadata, tensors), []
    for n_tokens in (33, int(rng.integers(34, 256)), 300):
        token_ids = rng.integers(3, N_VOCAB, min(n_tokens, loaded.config.n_ctx_max))
        pairs = zip(logits_of(loaded, token_ids.tolist()), judge.logits(token_ids), strict=True)
        medians.append(np.median([difference(got, expected) for got, expected in pairs]))
    assert sorted(medians)[1] < limit, f"seed {seed}: {medians}, {model.keys}"


@pytest.mark.parametrize("name", KNOWN)
def test_fresh_models_agree(tmp_path: Path, checkpoint, name: str) -> None:
    check(tmp_path, checkpoint, MODELS[name], seed_of(name))


@pytest.mark.parametrize("architecture", sorted({MODELS[name].architecture for name in KNOWN}))
def test_models_of_any_shape_agree(tmp_path: Path, checkpoint, architecture: str) -> None:
    for i in range(4):
        seed = seed_of(f"{architecture} {i}")
        check(tmp_path, checkpoint, random_file(architecture, np.random.default_rng(seed)), seed)


def test_the_stored_logits_are_what_transformers_says(checkpoint) -> None:
    with np.load(GOLDEN) as golden:
        for name in ("qwen35moe", "deepseek2 V3 in KT types", "gemma3"):
            model = MODELS[name]
            logits = checkpoint(model.metadata, draw_tensors(model)).logits(TOKEN_IDS)
            np.testing.assert_allclose(golden[name], logits[list(GOLDEN_POSITIONS)], rtol=1e-4, atol=1e-4)


def test_the_conversions_are_those_of_the_shared_files(shared: Path, checkpoint) -> None:
    """The 20 files were made by another hand, their logits by transformers: what is undone here was done there."""
    folder = shared / "models" / "arch"
    for name, about in json.loads((folder / "reference.json").read_text())["files"].items():
        judge = checkpoint(*contents(folder / name))
        got = judge.logits(np.array(about["prompt_ids"]), half_cache=False)[-1]
        np.testing.assert_allclose(got, about["logits_after_prompt"], rtol=0, atol=5e-5, err_msg=name)
        last = about["shape"].get("layers")
        assert all(tensor.startswith(f"blk.{last}.") for tensor in judge.unused), name  # the layer of MTP
