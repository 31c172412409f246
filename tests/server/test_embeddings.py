"""/v1/embeddings and llama.cpp's /embedding: what comes out, in which forms, and what is refused."""

import base64
import concurrent.futures
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest

from engine import Engine, EngineConfig, PromptReads, SamplingParams
from engine.loading import load_model
from engine.pooling import POOLINGS, Pool, Pooling
from kernels import load_backend
from server.schemas.embeddings import MAX_INPUTS
from support.in_process import InProcess, new_engine
from support.server_process import ServerProcess, running_server
from support.tiny_models import write_tiny_llama

N_EMBD = 256
TEXTS = ["the inn", "a town by the sea", "é 🤗", "the inn", "the " * 200]


@pytest.fixture(scope="module")
def small(tiny_model: Path) -> Iterator[InProcess]:
    """Two requests at a time and two that wait: less than the inputs of a batch."""
    with InProcess(new_engine(tiny_model, max_batch=2, max_queue=2), max_queue=2) as running:
        yield running


def embed(url: str, **body: Any) -> dict[str, Any]:
    answer = httpx.post(f"{url}/v1/embeddings", json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def vectors(url: str, **body: Any) -> np.ndarray:
    """float32 [n_inputs, dimensions]"""
    entries = embed(url, **body)["data"]
    assert [entry["index"] for entry in entries] == list(range(len(entries)))
    return np.array([entry["embedding"] for entry in entries], np.float32)


def test_embeddings_are_the_model_s_pooled_hidden_states(server: ServerProcess, tiny_model: Path) -> None:
    engine = Engine(load_model(tiny_model, load_backend("cpu", threads=2)), EngineConfig())
    tokenizer = engine.tokenizer
    assert tokenizer is not None
    ids = [tokenizer.encode(text, add_special=True, parse_special=False) for text in TEXTS]
    for pooling in POOLINGS:
        got = vectors(server.url, input=TEXTS, pooling=pooling)
        for prompt, vector in zip(ids, got, strict=True):
            np.testing.assert_array_equal(vector, np.float32(alone(engine, prompt, pooling)))
    assert embed(server.url, input=TEXTS)["usage"]["prompt_tokens"] == sum(map(len, ids))


def alone(engine: Engine, prompt: list[int], pooling: Pooling) -> list[float]:
    engine.add("one", prompt, SamplingParams(max_tokens=0), PromptReads(hidden=True))
    pool = Pool(pooling)
    while engine.has_work:
        for event in engine.step():
            if event.hidden is not None:
                pool.push(event.hidden)
    return pool.vector().numbers()


def test_an_embedding_has_length_one_and_says_what_it_cost(server: ServerProcess) -> None:
    answer = embed(server.url, input="the inn", model="tiny")
    assert (answer["object"], answer["model"]) == ("list", "tiny")
    [entry] = answer["data"]
    assert (entry["object"], entry["index"], len(entry["embedding"])) == ("embedding", 0, N_EMBD)
    assert np.linalg.norm(entry["embedding"]) == pytest.approx(1, abs=1e-6)
    n_tokens = httpx.post(server.url + "/tokenize", json={"prompt": "the inn"}).json()["count"]
    assert answer["usage"] == {"prompt_tokens": n_tokens, "total_tokens": n_tokens}


def test_texts_ids_and_lists_of_both_are_taken(server: ServerProcess) -> None:
    ids = httpx.post(server.url + "/tokenize", json={"prompt": "the inn"}).json()["tokens"]
    [expected] = vectors(server.url, input="the inn")
    for given in (ids, ["the inn"], [ids], ["the inn", ids], [[float(i) for i in ids]]):
        for vector in vectors(server.url, input=given):
            np.testing.assert_array_equal(vector, expected)
    assert vectors(server.url, input="").shape == (1, N_EMBD), "BOS alone"
    without = httpx.post(server.url + "/tokenize", json={"content": "the inn"}).json()["tokens"]
    np.testing.assert_array_equal(
        vectors(server.url, input="the inn", add_special_tokens=False), vectors(server.url, input=without)
    )


def test_llama_cpp_s_inputs_are_taken(server: ServerProcess) -> None:
    """Objects, and texts among ids: a list with bare ids is one input."""
    [expected] = vectors(server.url, input="the inn")
    parts = {"content": [{"type": "text", "text": "the "}, {"type": "text", "text": "inn"}]}
    for given in ({"prompt_string": "the inn"}, parts, [parts], ["the inn", {"prompt_string": "the inn"}]):
        for vector in vectors(server.url, input=given):
            np.testing.assert_array_equal(vector, expected)
    ids = [
        httpx.post(server.url + "/tokenize", json=body).json()["tokens"]
        for body in ({"prompt": "the"}, {"content": "inn"})
    ]
    mixed = ["the", 7, 8, "inn"]
    whole = [*ids[0], 7, 8, *ids[1]]
    np.testing.assert_array_equal(vectors(server.url, input=mixed), vectors(server.url, input=whole))
    assert vectors(server.url, input=[mixed, [5, "the", 6], "a"]).shape == (3, N_EMBD)


def test_base64_is_the_same_numbers_as_little_endian_float32(server: ServerProcess) -> None:
    [entry] = embed(server.url, input="the inn", encoding_format="base64")["data"]
    decoded = np.frombuffer(base64.b64decode(entry["embedding"]), "<f4")
    np.testing.assert_array_equal(decoded, vectors(server.url, input="the inn")[0])


def test_fewer_dimensions_are_the_front_scaled_again(server: ServerProcess) -> None:
    [whole] = vectors(server.url, input="the inn")
    [cut] = vectors(server.url, input="the inn", dimensions=32)
    np.testing.assert_allclose(cut, whole[:32] / np.linalg.norm(whole[:32]), rtol=1e-5)
    [raw] = vectors(server.url, input="the inn", normalize=False)
    np.testing.assert_allclose(whole, raw / np.linalg.norm(raw), rtol=1e-5)
    assert np.linalg.norm(raw) > 2


def test_an_embedding_is_the_same_alone_in_a_batch_and_beside_answers(server: ServerProcess) -> None:
    expected = vectors(server.url, input=TEXTS[0])[0]
    answering = {"prompt": "the", "max_tokens": 100, "ignore_eos": True}
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        others = [
            pool.submit(httpx.post, f"{server.url}/v1/completions", json=answering, timeout=60) for _ in "ab"
        ]
        batches = [pool.submit(vectors, server.url, input=TEXTS * 8) for _ in range(4)]
        for batch in batches:
            for vector in batch.result()[[0, 3]]:
                np.testing.assert_array_equal(vector, expected)
        assert all(other.result().status_code == 200 for other in others)


def test_more_inputs_than_the_engine_queues_are_taken_in_turn(small: InProcess) -> None:
    got = vectors(small.url, input=["the inn"] * 50)
    assert got.shape == (50, N_EMBD)
    assert (got == got[0]).all()
    small.assert_empty_soon()


def test_a_client_that_leaves_ends_its_batch(small: InProcess) -> None:
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{small.url}/v1/embeddings", json={"input": ["the " * 400] * 500}, timeout=0.5)
    small.assert_empty_soon()


def test_openai_s_client_reads_them(server: ServerProcess) -> None:
    """It asks for base64 by itself."""
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)
    answer = client.embeddings.create(model="tiny", input=TEXTS, dimensions=64)
    got = np.array([entry.embedding for entry in answer.data], np.float32)
    np.testing.assert_array_equal(got, vectors(server.url, input=TEXTS, dimensions=64))
    assert answer.usage.prompt_tokens > 0


def test_llama_cpp_s_route_has_a_list_of_lists(server: ServerProcess) -> None:
    answer = httpx.post(server.url + "/embedding", json={"content": ["the inn", "a town"]}).json()
    expected = vectors(server.url, input=["the inn", "a town"])
    assert [entry["index"] for entry in answer] == [0, 1]
    for entry, vector in zip(answer, expected, strict=True):
        np.testing.assert_array_equal(np.array(entry["embedding"], np.float32), [vector])
    raw = httpx.post(server.url + "/embedding", json={"content": "the inn", "embd_normalize": -1}).json()
    assert np.linalg.norm(raw[0]["embedding"]) > 2


@pytest.mark.slow
def test_pooling_is_the_request_s_else_the_server_s_else_the_file_s(tmp_path: Path) -> None:
    path = write_tiny_llama(tmp_path / "mean.gguf", metadata={"llama.pooling_type": 1})
    with running_server(path) as of_file, running_server(path, "--pooling", "last") as chosen:
        by_name = {p: vectors(of_file.url, input="the inn", pooling=p)[0] for p in POOLINGS}
        assert not np.allclose(by_name["mean"], by_name["last"])
        np.testing.assert_array_equal(vectors(of_file.url, input="the inn")[0], by_name["mean"])
        np.testing.assert_array_equal(vectors(chosen.url, input="the inn")[0], by_name["last"])
        np.testing.assert_array_equal(vectors(chosen.url, input="the inn", pooling="cls")[0], by_name["cls"])


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "input"),
        ({"input": None}, "input"),
        ({"input": []}, "input"),
        ({"input": {}}, "input"),
        ({"input": False}, "input"),
        ({"input": 5}, "input"),
        ({"input": [[]]}, "input"),
        ({"input": ["a", True]}, "input"),
        ({"input": [5, None]}, "input"),
        ({"input": [5, *["a"] * 65]}, "input"),
        ({"input": {"content": "a"}}, "input"),
        ({"input": {"content": [{"type": "image_url", "image_url": {"url": "a"}}]}}, "input"),
        ({"input": {"prompt_string": 5}}, "input.prompt_string"),
        ({"input": [[5, [5]]]}, "input"),
        ({"input": [-1]}, "input"),
        ({"input": [10**9]}, "input"),
        ({"input": [1.5]}, "input"),
        ({"input": ["a"] * (MAX_INPUTS + 1)}, "input"),
        ({"input": [[5] * 500] * 700}, "input"),
        ({"input": "the " * 600}, "input"),
        ({"input": [5] * 512}, "input"),
        ({"input": "a", "dimensions": N_EMBD + 1}, "dimensions"),
        ({"input": "a", "dimensions": 0}, "dimensions"),
        ({"input": "a", "dimensions": 2**70}, "dimensions"),
        ({"input": "a", "pooling": "max"}, "pooling"),
        ({"input": "a", "encoding_format": "hex"}, "encoding_format"),
        ({"input": "a", "embd_normalize": 1}, "embd_normalize"),
        ({"input": "a", "truncate_prompt_tokens": 5}, "truncate_prompt_tokens"),
        ({"input": "a", "normalize": "no"}, "normalize"),
    ],
)
def test_what_cannot_be_embedded_is_one_line(server: ServerProcess, body: Any, param: str) -> None:
    answer = httpx.post(f"{server.url}/v1/embeddings", json=body, timeout=30)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] == param
    assert len(answer.content) < 1000
