"""Random bodies by openapi.json's schemas, and such with a part that no schema allows: no 5xx, no hang, one shape."""

import json
import random
from typing import Any

import httpx
import jsonschema
import pytest

from server.schemas.operations import OPERATIONS
from support.json_values import any_value, value_by
from support.server_process import ServerProcess
from support.slices import IN_SLICE, of_slice

PATHS = [path for path, told in OPERATIONS.items() if told.body is not None]


@pytest.mark.parametrize("path", PATHS)
def test_random_bodies_are_answered_or_refused(server: ServerProcess, path: str) -> None:
    ask_random_bodies(server, path, 30, seed=5)


@pytest.mark.slow
@pytest.mark.parametrize("path", PATHS)
def test_many_random_bodies_are_answered_or_refused(server: ServerProcess, path: str) -> None:
    """Others in each run, but for CI, whose runs must not differ."""
    seed = 6 if IN_SLICE else random.SystemRandom().randrange(1 << 32)
    ask_random_bodies(server, path, of_slice(560, 100), seed=seed)


def ask_random_bodies(server: ServerProcess, path: str, n_bodies: int, seed: int) -> None:
    rng = random.Random(f"{seed} {path}")
    document = httpx.get(f"{server.url}/openapi.json").json()
    statuses = set()
    with httpx.Client(timeout=20) as client:
        for _ in range(n_bodies):
            raw = json.dumps(random_body(document, path, rng))
            answer = client.post(server.url + path, content=raw)
            assert answer.status_code < 500, (seed, raw, answer.text[:500])
            check(document, path, answer, raw)
            statuses.add(answer.status_code)
    assert 400 in statuses
    assert n_bodies < 100 or 200 in statuses
    assert httpx.get(f"{server.url}/health").status_code == 200


def random_body(document: dict[str, Any], path: str, rng: random.Random) -> dict[str, Any]:
    told = OPERATIONS[path].body
    assert told is not None
    components = document["components"]["schemas"]
    body: dict[str, Any] = value_by({"$ref": told.name}, components, rng)
    if rng.random() < 0.5:
        body |= told.example
    if rng.random() < 0.3:
        body[rng.choice([*components[told.name]["properties"], "x"])] = any_value(rng)
    if "max_completion_tokens" in components[told.name]["properties"]:
        body["max_completion_tokens"] = rng.randrange(4)  # the name that precedes the others
    return body


def check(document: dict[str, Any], path: str, answer: httpx.Response, raw: str) -> None:
    """An error as every route has it, a stream that ends, or the answer that the document describes."""
    if answer.headers["content-type"].startswith("text/event-stream"):
        assert answer.text.endswith("data: [DONE]\n\n"), raw
        return
    name = OPERATIONS[path].answer if answer.status_code == 200 else "Error"
    schema = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
    jsonschema.validate(answer.json(), schema)
    if answer.status_code != 200:
        assert len(answer.content) < 4096, raw
