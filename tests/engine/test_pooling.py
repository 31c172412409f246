"""One vector for a text, from the hidden states of its tokens, in whatever pieces they come."""

from pathlib import Path

import numpy as np
import pytest

from engine import Engine, EngineConfig, EspalierError, PromptReads, SamplingParams
from engine.loading import load_model
from engine.pooling import POOLINGS, Pool, Pooling
from kernels.ops import Ops
from support.random_models import FLOAT_LIMIT, INT8_LIMIT, SHAPES, TOKEN_IDS, difference, draw, write
from support.tiny_models import write_tiny_llama

REFERENCE_LIMIT = 0.02  # the reference has float activations, the CPU int8 ones: 0.006 over two layers


def pooled(pooling: Pooling, *pieces: np.ndarray) -> np.ndarray:
    pool = Pool(pooling)
    for piece in pieces:
        pool.push(piece)
    return np.array(pool.vector(normalize=False).numbers())


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("cuts", [[], [1], [3, 4], [1, 2, 3, 4, 5, 6]])
def test_a_pool_is_the_same_in_any_pieces(pooling: Pooling, cuts: list[int]) -> None:
    hidden = np.random.default_rng(1).normal(size=(7, 12)).astype(np.float32)
    whole = {"mean": hidden.astype(np.float64).mean(0), "last": hidden[-1], "cls": hidden[0]}[pooling]
    np.testing.assert_allclose(pooled(pooling, *np.split(hidden, cuts)), whole, rtol=1e-6)


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("dimensions", [None, 1, 5, 12])
def test_an_embedding_is_cut_first_and_then_of_length_one(pooling: Pooling, dimensions: int | None) -> None:
    hidden = np.random.default_rng(2).normal(size=(7, 12)).astype(np.float32) * 40
    pool = Pool(pooling)
    pool.push(hidden)
    vector = pool.vector(dimensions)
    front = pooled(pooling, hidden)[:dimensions]
    np.testing.assert_allclose(vector.numbers(), front / np.linalg.norm(front), rtol=1e-6)
    np.testing.assert_array_equal(np.frombuffer(vector.little_endian(), "<f4"), np.float32(vector.numbers()))


def test_a_vector_of_zeros_stays_one_and_numbers_that_are_none_are_an_error() -> None:
    assert pooled("mean", np.zeros((3, 2), np.float32)).tolist() == [0, 0]
    for bad in (np.nan, np.inf):
        pool = Pool("last")
        pool.push(np.array([[1, bad]], np.float32))
        with pytest.raises(EspalierError, match="not finite"):
            pool.vector()


def embedding(ops: Ops, path: Path, prompt: list[int], pooling: Pooling) -> np.ndarray:
    engine = Engine(load_model(path, ops), EngineConfig(kv_memory_bytes=1 << 22, step_tokens=64))
    engine.add("one", prompt, SamplingParams(max_tokens=0), PromptReads(hidden=True))
    pool = Pool(pooling)
    while engine.has_work:
        for event in engine.step():
            assert event.token_ids == ()
            if event.hidden is not None:
                pool.push(event.hidden)
    return np.array(pool.vector().numbers())


@pytest.mark.slow
@pytest.mark.parametrize("pooling", ["mean", "last"])
def test_embeddings_are_those_of_the_numpy_reference(
    tmp_path: Path, cpu_ops: Ops, reference_ops: Ops, pooling: Pooling
) -> None:
    path = write_tiny_llama(tmp_path / "tiny.gguf")
    prompt = np.random.default_rng(3).integers(3, 200, 150).tolist()
    got, expected = (embedding(ops, path, prompt, pooling) for ops in (cpu_ops, reference_ops))
    assert difference(got, expected) < REFERENCE_LIMIT


@pytest.mark.slow
@pytest.mark.parametrize("name", ["llama", "qwen2", "qwen3", "qwen3 in KT types"])
@pytest.mark.parametrize("pooling", ["mean", "last"])
def test_embeddings_are_those_of_transformers(
    tmp_path: Path, cpu_ops: Ops, name: str, pooling: Pooling
) -> None:
    from support.transformers_oracle import oracle_hidden

    shape = SHAPES[name]
    weights = draw(shape)
    got = embedding(cpu_ops, write(tmp_path / "m.gguf", shape, weights), TOKEN_IDS.tolist(), pooling)
    hidden = oracle_hidden(shape, weights, TOKEN_IDS)
    expected = hidden.mean(0) if pooling == "mean" else hidden[-1]
    limit = INT8_LIMIT if shape.types else FLOAT_LIMIT
    assert difference(got, expected / np.linalg.norm(expected)) < limit


@pytest.mark.parametrize(
    ("number", "pooling"), [(None, None), (0, None), (1, "mean"), (2, "cls"), (3, "last"), (4, None)]
)
def test_the_file_s_pooling_type_is_read(
    tmp_path: Path, cpu_ops: Ops, number: int | None, pooling: str | None
) -> None:
    more = {} if number is None else {"llama.pooling_type": number}
    loaded = load_model(write_tiny_llama(tmp_path / "tiny.gguf", metadata=more), cpu_ops)
    assert loaded.config.pooling == pooling
