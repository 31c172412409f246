"""Every architecture against transformers on CPU torch, live, fresh weights. `make test-slow` installs both."""

from pathlib import Path

import numpy as np
import pytest

from engine.loading import load_model
from kernels.ops import Ops
from support.forward_pass import logits_of
from support.random_models import (
    FLOAT_LIMIT,
    GOLDEN,
    GOLDEN_POSITIONS,
    INT8_LIMIT,
    N_CTX,
    N_VOCAB,
    SHAPES,
    TOKEN_IDS,
    difference,
    draw,
    random_shape,
    write,
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def oracle_logits():
    """A fixture, as the other tests of this suite must be collected where torch is not installed."""
    from support.transformers_oracle import oracle_logits

    return oracle_logits


@pytest.mark.parametrize("name", SHAPES)
def test_fresh_models_agree_at_every_position_of_texts_of_any_length(
    tmp_path: Path, cpu_ops: Ops, oracle_logits, name: str
) -> None:
    seed = int(np.random.SeedSequence().entropy % (1 << 32))
    rng, shape = np.random.default_rng(seed), SHAPES[name]
    weights = draw(shape, seed)
    loaded = load_model(write(tmp_path / "m.gguf", shape, weights), cpu_ops)
    limit = INT8_LIMIT if shape.types else FLOAT_LIMIT
    for n_tokens in (1, 33, int(rng.integers(34, 256)), 300):
        token_ids = rng.integers(3, N_VOCAB, n_tokens)
        got = logits_of(loaded, token_ids.tolist())
        expected = oracle_logits(shape, weights, token_ids)
        assert difference(got, expected) < limit, f"seed {seed}, {n_tokens} tokens"


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3"])
def test_models_of_any_shape_agree(tmp_path: Path, cpu_ops: Ops, oracle_logits, architecture: str) -> None:
    for _ in range(4):
        seed = int(np.random.SeedSequence().entropy % (1 << 32))
        rng = np.random.default_rng(seed)
        shape = random_shape(architecture, rng)
        weights = draw(shape, seed)
        loaded = load_model(write(tmp_path / "m.gguf", shape, weights), cpu_ops)
        token_ids = rng.integers(3, N_VOCAB, int(rng.integers(2, N_CTX + 1)))
        got, expected = logits_of(loaded, token_ids.tolist()), oracle_logits(shape, weights, token_ids)
        assert difference(got, expected) < FLOAT_LIMIT, f"seed {seed}, {len(token_ids)} tokens, {shape}"


def test_the_stored_logits_are_what_the_oracle_says(oracle_logits) -> None:
    with np.load(GOLDEN) as golden:
        for name in ("llama, yarn", "qwen2", "qwen3 in KT types"):
            logits = oracle_logits(SHAPES[name], draw(SHAPES[name]), TOKEN_IDS)[list(GOLDEN_POSITIONS)]
            np.testing.assert_allclose(golden[name], logits, rtol=1e-4, atol=1e-4)
