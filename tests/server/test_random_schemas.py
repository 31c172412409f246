"""Random schemas, models that know nothing of JSON, temperature 1: every answer that is made is valid and ends."""

import json
import random
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import jsonschema
import pytest

from support.chat_templates import CHATML
from support.random_schemas import random_schema
from support.server_process import ServerProcess, running_server
from support.slices import of_slice
from support.tiny_models import write_tiny_llama
from support.vocabularies import bpe_metadata

MAX_TOKENS = 1500  # the longest form that the schemas allow, byte by byte
AT_ONCE = 4


@pytest.fixture(scope="module", params=["spm", "bpe", "stories"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Two models of random weights, of either kind of vocabulary, and one that has learnt to tell stories; with how
    deep the schemas are that its context has room for."""
    path = tmp_path_factory.mktemp("models") / f"{request.param}.gguf"
    size = {"llama.context_length": 2048}
    if request.param == "stories":
        path = request.getfixturevalue("shared") / "models" / "stories-wide256-IQ4_KT.gguf"
    elif request.param == "bpe":
        write_tiny_llama(path, vocabulary=bpe_metadata(), metadata={"tokenizer.chat_template": CHATML} | size)
    else:
        write_tiny_llama(path, metadata=size)
    with running_server(path) as running:
        yield running, 1 if request.param == "stories" else 3  # whose context is a quarter of the others'


def answered(server: ServerProcess, max_depth: int, seed: int) -> str | None:
    """What is wrong with the answer to a random schema; None: nothing."""
    schema = random_schema(random.Random(seed), max_depth)
    body = {
        "messages": [{"role": "user", "content": "Fill in the form."}],
        "response_format": {"type": "json_schema", "json_schema": {"name": "form", "schema": schema}},
        "temperature": 1,
        "seed": seed,
        "max_tokens": MAX_TOKENS,
    }
    answer = httpx.post(f"{server.url}/v1/chat/completions", json=body, timeout=120)
    if answer.status_code != 200:
        return f"{seed}: {answer.text[:300]}"
    choice = answer.json()["choices"][0]
    if choice["finish_reason"] != "stop":
        return f"{seed}: has not ended: {choice['message']['content'][-200:]!r}"
    try:
        jsonschema.validate(json.loads(choice["message"]["content"]), schema)
    except (ValueError, jsonschema.ValidationError) as error:
        return f"{seed}: {error} in {choice['message']['content']!r}"
    return None


@pytest.mark.parametrize("n_schemas", [10, pytest.param(of_slice(500, 60), marks=pytest.mark.slow)])
def test_every_answer_is_valid_and_ends(server: tuple[ServerProcess, int], n_schemas: int) -> None:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = list(pool.map(lambda seed: answered(*server, seed), range(n_schemas)))
    assert [wrong for wrong in found if wrong is not None] == []
