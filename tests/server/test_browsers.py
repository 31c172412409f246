"""Pages of a browser: who may read, who is let in, what a preflight says. The requests are those browsers send."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from engine import EspalierError
from server.origins import OriginPolicy, is_loopback, parse_origin
from server.settings import Settings, resolve
from support.in_process import InProcess, new_engine
from support.server_process import ServerProcess

PAGE = "http://localhost:3000"
FOREIGN = "https://evil.example"
APP = "https://chat.example.com"
CHAT = {"messages": [{"role": "user", "content": "the inn"}], "max_tokens": 2}
LOCAL = [
    "http://localhost",
    "https://localhost:8443",
    "http://127.0.0.1:5173",
    "http://[::1]:3000",
    "http://127.1.2.3",
]
#: None is a page of this machine, though each looks like one.
NOT_LOCAL = ["http://localhost.evil.example", "http://evil.example:8000", "http://127.0.0.1.evil.example", "null", "",
             "http://0x7f000001", "file://", "http://localhost@evil.example", "http://localhost/evil.example",
             "http://evil.example/localhost", "ftp://localhost", "localhost"]  # fmt: skip


def preflight(
    url: str, origin: str, headers: str = "content-type,authorization", **more: str
) -> httpx.Response:
    """As fetch() asks before a POST with a JSON body."""
    asked = {
        "origin": origin,
        "access-control-request-method": "POST",
        "access-control-request-headers": headers,
    }
    return httpx.options(url, headers=asked | more)


@pytest.fixture(scope="module")
def keyed(tiny_model: Path) -> Iterator[InProcess]:
    with InProcess(
        new_engine(tiny_model), api_keys=("secret",), cors_origins=(APP, "app://obsidian.md")
    ) as running:
        yield running


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/models", "/", "/nothing/here"])
def test_a_preflight_is_answered_without_a_key_on_every_path(keyed: InProcess, path: str) -> None:
    answer = preflight(keyed.url + path, PAGE)
    assert answer.status_code == 204
    assert answer.headers["access-control-allow-origin"] == PAGE
    assert "POST" in answer.headers["access-control-allow-methods"]
    assert "Origin" in answer.headers["vary"]
    assert int(answer.headers["access-control-max-age"]) > 0
    assert answer.headers["x-request-id"]


def test_a_preflight_allows_the_headers_of_sdks_and_no_others(server: ServerProcess) -> None:
    asked = "X-Stainless-Lang, x-stainless-retry-count,authorization,openai-organization,x-secret,cookie,a b"
    allowed = preflight(server.url + "/v1/chat/completions", PAGE, asked).headers[
        "access-control-allow-headers"
    ]
    names = set(allowed.split(", "))
    assert names >= {"x-stainless-lang", "x-stainless-retry-count", "authorization", "openai-organization"}
    assert names >= {"content-type", "x-api-key"}
    assert not names & {"x-secret", "cookie", "a b"}


def test_a_preflight_answer_is_bounded(server: ServerProcess) -> None:
    asked = ",".join(f"x-stainless-{i}" for i in range(2000))
    assert (
        len(preflight(server.url + "/v1/models", PAGE, asked).headers["access-control-allow-headers"]) < 4096
    )


@pytest.mark.parametrize(
    ("method", "path", "key", "status"),
    [
        ("GET", "/v1/models", "secret", 200),
        ("GET", "/health", "", 200),
        ("GET", "/v1/models", "wrong", 401),
        ("GET", "/nothing", "secret", 404),
        ("DELETE", "/v1/models", "secret", 405),
        ("POST", "/v1/chat/completions", "secret", 400),
    ],
)
def test_every_answer_lets_its_page_read_it(
    keyed: InProcess, method: str, path: str, key: str, status: int
) -> None:
    """A page that may not read an error sees "network error" in place of the line that would help."""
    headers = {"origin": APP} | ({"authorization": f"Bearer {key}"} if key else {})
    answer = httpx.request(method, keyed.url + path, headers=headers)
    assert answer.status_code == status
    assert answer.headers["access-control-allow-origin"] == APP
    assert "x-request-id" in answer.headers["access-control-expose-headers"]
    assert "access-control-allow-credentials" not in answer.headers


def test_streams_and_refused_bodies_have_the_headers(tiny_model: Path) -> None:
    with InProcess(new_engine(tiny_model), cors_origins=("*",), max_body_bytes=500) as running:
        url = running.url + "/v1/chat/completions"
        for body, status in ((CHAT | {"stream": True}, 200), (CHAT | {"user": "x" * 600}, 413)):
            answer = httpx.post(url, json=body, headers={"origin": FOREIGN})
            assert answer.status_code == status
            assert answer.headers["access-control-allow-origin"] == "*"
            assert "access-control-allow-credentials" not in answer.headers
        assert preflight(url, "null").headers["access-control-allow-origin"] == "*"


def test_with_a_key_a_foreign_page_may_ask_but_not_read(keyed: InProcess) -> None:
    """The key keeps it out; a proxy in front may serve pages that are not known here."""
    answer = httpx.get(
        keyed.url + "/v1/models", headers={"origin": FOREIGN, "authorization": "Bearer secret"}
    )
    assert answer.status_code == 200
    assert "access-control-allow-origin" not in answer.headers
    assert "Origin" in answer.headers["vary"]
    refused = preflight(keyed.url + "/v1/models", FOREIGN)
    assert refused.status_code == 403
    assert "--cors-origin" in refused.json()["error"]["message"]


@pytest.mark.parametrize("origin", [FOREIGN, "null", "http://localhost.evil.example"])
def test_without_a_key_a_foreign_pages_plain_text_is_refused(server: ServerProcess, origin: str) -> None:
    """Browsers send it without a preflight."""
    answer = httpx.post(
        server.url + "/v1/chat/completions",
        json=CHAT,
        headers={"origin": origin, "content-type": "text/plain"},
    )
    assert answer.status_code == 403
    assert "--cors-origin" in answer.json()["error"]["message"]
    assert "evil" not in answer.text


@pytest.mark.parametrize("origin", [None, *LOCAL])
def test_programs_and_pages_of_this_machine_are_answered(server: ServerProcess, origin: str | None) -> None:
    headers = {} if origin is None else {"origin": origin}
    answer = httpx.post(server.url + "/v1/chat/completions", json=CHAT, headers=headers)
    assert answer.status_code == 200
    assert answer.headers.get("access-control-allow-origin") == origin


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "localhost.evil.example", "127.0.0.1.x", "a b"]
)
def test_a_rebound_name_is_refused(server: ServerProcess, host: str) -> None:
    for path in ("/v1/models", "/docs"):
        answer = httpx.get(server.url + path, headers={"host": host})
        assert answer.status_code in (400, 403)
    if " " not in host:
        assert "--allowed-host" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST:1", "127.0.0.1:9", "127.9.9.9", "[::1]:8000", "localhost.", "espalier:8000"],
)
def test_this_machines_names_are_answered_at_any_port(server: ServerProcess, host: str) -> None:
    assert httpx.get(server.url + "/v1/models", headers={"host": host}).status_code == 200


def policy(
    host: str = "127.0.0.1", keys: bool = False, origins: tuple[str, ...] = (), hosts: tuple[str, ...] = ()
):
    return OriginPolicy(host, keys, origins, hosts)


@pytest.mark.parametrize("origin", LOCAL)
def test_pages_of_this_machine_may_read(origin: str) -> None:
    assert policy().allows_origin(origin)


@pytest.mark.parametrize("origin", NOT_LOCAL)
def test_what_only_looks_like_this_machine_may_not(origin: str) -> None:
    assert not policy().allows_origin(origin)


def test_origins_are_compared_as_browsers_write_them() -> None:
    allowed = policy(origins=("https://Chat.Example.com:443", "http://a.example:8080"))
    assert allowed.allows_origin("https://chat.example.com")
    assert allowed.allows_origin("http://a.example:8080")
    for other in (
        "http://chat.example.com",
        "https://chat.example.com:444",
        "http://a.example",
        "https://x.chat.example.com",
    ):
        assert not allowed.allows_origin(other)


def test_a_proxys_name_and_its_own_pages_are_let_in_once_it_is_allowed() -> None:
    allowed = policy(hosts=("chat.example.com",))
    assert allowed.allows_host("chat.example.com:443")
    assert allowed.allows_origin(APP, ["chat.example.com"])
    assert not allowed.allows_origin(APP, ["127.0.0.1:8000"])
    assert not policy().allows_origin(FOREIGN, ["evil.example"])


def test_what_is_guarded() -> None:
    assert policy("127.0.0.1").guards
    assert policy("localhost").guards
    assert policy("::1").guards
    assert not policy("127.0.0.1", keys=True).guards
    assert not policy("0.0.0.0").guards
    assert policy("0.0.0.0", hosts=("chat.example.com",)).guards


def test_addresses_cannot_be_rebound_where_the_network_is_served() -> None:
    """A probe asks a container by its address, which no page can have for its name."""
    open_to_all = policy("0.0.0.0", hosts=("chat.example.com",))
    assert open_to_all.allows_host("10.1.2.3:8000")
    assert not open_to_all.allows_host("evil.example")
    assert not policy("127.0.0.1").allows_host("10.1.2.3:8000")


@pytest.mark.parametrize(
    "host", ["localhost", "127.0.0.1", "127.255.0.1", "::1", "[::1]", "::ffff:127.0.0.1"]
)
def test_loopback_addresses(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host", ["", "0.0.0.0", "::", "10.0.0.1", "localhost.example", "128.0.0.1", "127.0.0"]
)
def test_other_addresses(host: str) -> None:
    assert not is_loopback(host)


def test_settings_read_lists_and_refuse_what_is_no_origin_or_host() -> None:
    environ = {
        "ESPALIER_CORS_ORIGIN": "https://a.example/, http://b.example:80",
        "ESPALIER_ALLOWED_HOST": "a,b.example",
    }
    settings = resolve({}, environ)
    assert settings.cors_origins == ("https://a.example", "http://b.example:80")
    assert settings.allowed_hosts == ("a", "b.example")
    for name, value in (
        ("CORS_ORIGIN", "a.example"),
        ("CORS_ORIGIN", "https://a/b"),
        ("ALLOWED_HOST", "http://a"),
    ):
        with pytest.raises(EspalierError, match=name):
            resolve({}, {f"ESPALIER_{name}": value})
    assert Settings().cors_origins == ()


def test_default_ports_are_left_out() -> None:
    assert parse_origin("HTTPS://A.example:443") == ("https", "a.example", "")
    assert parse_origin("http://a.example:443") == ("http", "a.example", "443")
