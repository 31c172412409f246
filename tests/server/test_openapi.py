"""openapi.json says what the routes take and answer, and /docs shows it without asking anyone else."""

import json
import re
from typing import Any

import httpx
import jsonschema
import pytest

from server.schemas.field_table import FIELDS
from server.schemas.fields import CHAT, COMPLETIONS, Use
from server.schemas.operations import OPERATIONS
from support.server_process import ServerProcess


@pytest.fixture(scope="module")
def document(server: ServerProcess) -> dict[str, Any]:
    return httpx.get(f"{server.url}/openapi.json").json()


def check(document: dict[str, Any], value: Any, name: str) -> None:
    """value against components.schemas.NAME."""
    schema = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
    jsonschema.validate(value, schema)


#: Path -> a body that is answered, of the routes that take one.
EXAMPLES = {path: told.body.example for path, told in OPERATIONS.items() if told.body is not None}


def test_every_route_is_described_and_nothing_else_is(
    server: ServerProcess, document: dict[str, Any]
) -> None:
    served = httpx.get(server.url).json()["routes"]
    assert {route.split()[1] for route in served} == OPERATIONS.keys() == document["paths"].keys()
    operations = {(p, m): o for p, methods in document["paths"].items() for m, o in methods.items()}
    assert {p for p, method in operations if method == "post"} == EXAMPLES.keys()
    names = [operation["operationId"] for operation in operations.values()]
    assert len(set(names)) == len(names)
    for (path, method), operation in operations.items():
        error = operation["responses"]["default"]["content"]["application/json"]["schema"]
        assert error == {"$ref": "#/components/schemas/Error"}, path
        assert ("requestBody" in operation) == (method == "post")
        if method == "post":
            schema = operation["requestBody"]["content"]["application/json"]["schema"]
            assert document["components"]["schemas"][schema["$ref"].split("/")[-1]]["properties"]
            streams = {"text/event-stream"} if OPERATIONS[path].event else set()
            assert set(operation["responses"]["200"]["content"]) == {"application/json"} | streams


@pytest.mark.parametrize("path", OPERATIONS)
def test_an_answer_is_as_described(server: ServerProcess, document: dict[str, Any], path: str) -> None:
    """With no key that the schema does not name."""
    told = OPERATIONS[path]
    if told.body is None:
        answer = httpx.get(server.url + path.format(name="tiny"))
    else:
        check(document, EXAMPLES[path], told.body.name)
        answer = httpx.post(server.url + path, json=EXAMPLES[path] | {"max_tokens": 3})
    assert answer.status_code == 200, answer.text
    check(document, answer.json(), told.answer)
    schema = document["components"]["schemas"][told.answer]
    if isinstance(answer.json(), dict):
        assert answer.json().keys() <= schema["properties"].keys()


@pytest.mark.parametrize(("route", "name"), [(CHAT, "ChatRequest"), (COMPLETIONS, "CompletionRequest")])
def test_a_request_schema_describes_every_honoured_field(
    document: dict[str, Any], route: str, name: str
) -> None:
    properties = document["components"]["schemas"][name]["properties"]
    honoured = {n for n, field in FIELDS.of_route(route).items() if field.use is Use.HONOURED}
    assert honoured <= properties.keys()
    assert all(field["description"] for field in properties.values())
    check(document, EXAMPLES[f"/v1/{route}"], name)
    with pytest.raises(jsonschema.ValidationError):
        check(document, EXAMPLES[f"/v1/{route}"] | {"temperature": "hot"}, name)
    with pytest.raises(jsonschema.ValidationError):
        check(document, {"max_tokens": 3}, name)


@pytest.mark.parametrize(
    ("route", "whole", "event"),
    [(CHAT, "ChatCompletion", "ChatCompletionChunk"), (COMPLETIONS, "Completion", "Completion")],
)
def test_answers_are_as_described(
    server: ServerProcess, document: dict[str, Any], route: str, whole: str, event: str
) -> None:
    url, body = f"{server.url}/v1/{route}", EXAMPLES[f"/v1/{route}"] | {"max_tokens": 3}
    check(document, httpx.post(url, json=body).json(), whole)
    options = {"include_usage": True, "continuous_usage_stats": True}
    text = httpx.post(url, json=body | {"stream": True, "stream_options": options}).text
    events = [json.loads(line.removeprefix("data: ")) for line in text.split("\n\n")[:-2]]
    assert len(events) > 2
    for one in events:
        check(document, one, event)
    check(document, httpx.post(url, json={}).json(), "Error")
    with pytest.raises(jsonschema.ValidationError):
        check(document, httpx.post(url, json={}).json(), whole)


def test_the_docs_page_asks_nobody_but_this_server(server: ServerProcess) -> None:
    page = httpx.get(f"{server.url}/docs")
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    assert "connect-src 'self'" in page.headers["content-security-policy"]
    assert not re.findall(r"""https?://|(?:src|href)=["']//|@import|url\(""", page.text)
    assert httpx.get(f"{server.url}/redoc").status_code == 404


def test_ranges_in_the_schema_are_those_that_the_server_checks(
    server: ServerProcess, document: dict[str, Any]
) -> None:
    properties = document["components"]["schemas"]["CompletionRequest"]["properties"]
    for name in ("temperature", "top_p", "min_p", "repetition_penalty", "frequency_penalty", "top_k"):
        schema = properties[name]["anyOf"][0]
        lowest = schema["minimum"]
        answer = httpx.post(f"{server.url}/v1/completions", json={"prompt": "a", name: lowest - 1})
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, name)
        body = {"prompt": "a", "max_tokens": 1, name: lowest}
        assert httpx.post(f"{server.url}/v1/completions", json=body).status_code == 200
