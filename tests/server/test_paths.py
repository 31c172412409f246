"""The paths that people send: the route they mean, or a line that names it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from server.paths import shown_path
from support.in_process import InProcess, new_engine
from support.server_process import ServerProcess

CHAT = {"messages": [{"role": "user", "content": "the inn"}], "max_tokens": 1}
BODIES: dict[str, dict[str, Any]] = {
    "chat/completions": CHAT,
    "chat/completions/render": CHAT,
    "chat/completions/input_tokens": CHAT,
    "apply-template": CHAT,
    "embeddings": {"input": "the inn"},
    "embedding": {"content": "the inn"},
    "tokenize": {"prompt": "the inn"},
    "detokenize": {"tokens": [5]},
    "completions": {"prompt": "the inn", "max_tokens": 1},
}


@pytest.fixture(scope="module")
def keyed(tiny_model: Path) -> Iterator[InProcess]:
    with InProcess(new_engine(tiny_model), api_keys=("secret",), aliases=("org/tiny",)) as running:
        yield running


@pytest.mark.parametrize("route", BODIES)
@pytest.mark.parametrize("form", ["//v1/{}", "/v1//{}", "/v1/{}/", "/{}", "/v1/v1/{}", "//v1//v1//{}//"])
def test_a_post_is_served_under_every_form_of_its_path(server: ServerProcess, route: str, form: str) -> None:
    answer = httpx.post(server.url + form.format(route), json=BODIES[route])
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    "path", ["/", "/v1", "/v1/", "/models", "/v1/models", "/v1/models/", "/v1/models/tiny", "/models/tiny/",
             "/health", "/v1/health", "/ready", "/v1/ready/", "/version",
             "/tokenizer_info", "/v1/tokenizer_info", "/props", "/v1/props/", "/slots", "/openapi.json", "/docs"]
)  # fmt: skip
def test_head_is_a_get_without_its_body(server: ServerProcess, path: str) -> None:
    got, head = httpx.get(server.url + path), httpx.head(server.url + path)
    assert got.status_code == head.status_code == 200, got.text
    assert got.content
    assert head.content == b""
    for name in ("content-type", "content-length"):
        assert head.headers[name] == got.headers[name]


def test_the_root_says_what_is_served(server: ServerProcess) -> None:
    about = httpx.get(server.url).json()
    assert about["name"] == "espalier"
    assert about["model"] == httpx.get(server.url + "/v1/models").json()["data"][0]["id"]
    assert about["version"] == httpx.get(server.url + "/version").json()["version"]
    assert {"POST /v1/chat/completions", "GET /v1/models"} <= set(about["routes"])


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/completion", "POST /v1/completions"),
        ("/api/generate", "POST /v1/completions"),
        ("/api/chat", "POST /v1/chat/completions"),
        ("/v1/responses", "POST /v1/chat/completions"),
        ("/v1/messages", "POST /v1/chat/completions"),
        ("/v1/chat/completion", "POST /v1/chat/completions"),
        ("/api/tags", "GET /v1/models"),
        ("/healt", "GET /health"),
        ("/api/embed", "POST /v1/embeddings"),
        ("/v1/rerank", "POST /v1/chat/completions"),
    ],
)
def test_an_unknown_path_is_told_the_nearest_route(server: ServerProcess, path: str, route: str) -> None:
    for method in ("GET", "POST"):
        answer = httpx.request(method, server.url + path)
        assert answer.status_code == 404
        message = answer.json()["error"]["message"]
        assert f"no route {path} " in message
        assert f"use {route}," in message


def test_an_unknown_path_is_shown_bounded_and_harmless(server: ServerProcess) -> None:
    answer = httpx.get(server.url + "/" + "%1b[31m%E2%80%AE%0A" + "x" * 5000)
    assert answer.status_code == 404
    message = answer.json()["error"]["message"]
    assert len(message) < 300
    assert message.isascii()
    assert message.isprintable()
    assert shown_path("/a b") == "/a b"


def test_a_method_that_a_route_does_not_have_is_told_the_ones_it_has(server: ServerProcess) -> None:
    answer = httpx.get(server.url + "/chat/completions")
    assert answer.status_code == 405
    assert "use POST" in answer.json()["error"]["message"]
    assert answer.headers["allow"] == "POST"
    for path, allowed in (("/chat/completions", "POST, OPTIONS"), ("/v1/models/x", "GET, HEAD, OPTIONS"),
                          ("/nothing", "GET, HEAD, POST, OPTIONS")):  # fmt: skip
        assert httpx.options(server.url + path).headers["allow"] == allowed


@pytest.mark.parametrize("path", ["/v1/models", "//v1/models", "/models", "/v1/v1/models/", "/", "/version",
                                  "/health/x", "/healthy", "/%2e%2e/v1/models", "/health/../v1/models",
                                  "/v1/chat/completions", "/docs", "/nothing", "/tokenizer_info",
                                  "/props", "/slots"])  # fmt: skip
def test_the_key_is_asked_for_on_the_path_that_results(keyed: InProcess, path: str) -> None:
    assert httpx.get(keyed.url + path).status_code == 401


@pytest.mark.parametrize("path", ["/health", "//health", "/v1/health", "/ready/", "/v1/v1/ready"])
def test_health_needs_no_key_in_any_form(keyed: InProcess, path: str) -> None:
    assert httpx.get(keyed.url + path).status_code == 200


def test_a_models_name_may_have_a_slash(keyed: InProcess) -> None:
    headers = {"authorization": "Bearer secret"}
    for path in ("/v1/models/org/tiny", "/models/org/tiny/", "/v1/models/org%2Ftiny"):
        assert httpx.get(keyed.url + path, headers=headers).json()["id"] == "org/tiny"


def test_every_route_asks_for_the_key_but_the_two_that_need_none(keyed: InProcess) -> None:
    """The whole table: those that are added later, too."""
    routes = [(method, route.path) for route in keyed.app.state.routes for method in route.methods or ()]
    assert len(routes) > 20
    for method, path in routes:
        for headers in ({}, {"authorization": "Bearer wrong"}, {"x-api-key": "wrong"}):
            answer = httpx.request(method, keyed.url + path.replace("{name:path}", "tiny"), headers=headers)
            assert (answer.status_code == 401) == (path not in ("/health", "/ready")), (method, path)
