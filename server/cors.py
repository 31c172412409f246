"""Two pure ASGI layers for browsers: the headers that let a page read an answer, and who is let in at all.

`CorsHeaders` stands outside everything that answers, so that errors and streams have the headers too. `OriginGuard`
stands inside the layer that gives requests their ids and log lines; it answers preflights, without a key.
"""

import re
from collections.abc import Iterator, Sequence

from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.errors import ApiError
from server.origins import OriginPolicy

Headers = list[tuple[bytes, bytes]]

ALLOW_METHODS = b"GET, HEAD, POST, OPTIONS"
MAX_AGE_SECONDS = 7200  # the longest that browsers keep an answer to a preflight
EXPOSED = b"x-request-id, openai-processing-ms, retry-after"
#: Headers that a page may send: those of the API, of its SDKs, and of tracing.
_ALLOWED_HEADER = re.compile(
    r"accept|accept-language|authorization|baggage|cache-control|content-language|content-type|http-referer"
    r"|idempotency-key|pragma|sentry-trace|traceparent|tracestate|user-agent|x-api-key|x-request-id|x-title"
    r"|(x-stainless|openai|anthropic)-[a-z0-9-]{1,64}"
)
MAX_REQUESTED = 64  # names in one preflight


class CorsHeaders:
    """access-control-allow-origin on every answer to a page that may read it."""

    def __init__(self, app: ASGIApp, policy: OriginPolicy) -> None:
        self.app, self._policy = app, policy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        added = self._added(scope)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), *added]}
            await send(message)

        await self.app(scope, receive, send_with_headers)

    def _added(self, scope: Scope) -> Headers:
        if self._policy.allows_any:
            return [(b"access-control-allow-origin", b"*"), (b"access-control-expose-headers", EXPOSED)]
        # Caches must not give one origin's answer to another, nor one without the headers to a page.
        added = [(b"vary", b"Origin")]
        origins = list(_values(scope, b"origin"))
        if len(origins) == 1 and self._policy.allows_origin(origins[0], _values(scope, b"host")):
            added += [
                (b"access-control-allow-origin", origins[0].encode("latin-1")),
                (b"access-control-expose-headers", EXPOSED),
            ]
        return added


class OriginGuard:
    """Refuses foreign pages and names where nothing else keeps them out; answers OPTIONS on every path."""

    def __init__(self, app: ASGIApp, policy: OriginPolicy, routes: Sequence[Route]) -> None:
        self.app, self._policy, self._routes = app, policy, routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            if self._policy.guards:
                self._check(scope)
            if scope["method"] == "OPTIONS":
                await self._preflight(scope, send)
                return
        await self.app(scope, receive, send)

    def _check(self, scope: Scope) -> None:
        if not all(map(self._policy.allows_host, _values(scope, b"host"))):
            raise ApiError(
                403,
                "the Host header is not a name of this server; --allowed-host NAME (ESPALIER_ALLOWED_HOST) adds one, "
                "and with --api-key every name is answered",
                code="host_not_allowed",
            )
        if not all(self._allows(scope, origin) for origin in _values(scope, b"origin")):
            raise self._foreign_origin()

    async def _preflight(self, scope: Scope, send: Send) -> None:
        headers: Headers = [(b"allow", self._methods(scope["path"]))]
        origins = list(_values(scope, b"origin"))
        if origins and any(_values(scope, b"access-control-request-method")):
            if not all(self._allows(scope, origin) for origin in origins):
                raise self._foreign_origin()
            headers += self._permissions(scope)
        await send({"type": "http.response.start", "status": 204, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    def _methods(self, path: str) -> bytes:
        """Those that the path's route answers; all of them where there is none."""
        found = [route.methods or () for route in self._routes if route.path_regex.match(path)]
        return ", ".join([*sorted(found[0]), "OPTIONS"]).encode() if found else ALLOW_METHODS

    def _permissions(self, scope: Scope) -> Headers:
        asked = [
            name.strip().lower()
            for value in _values(scope, b"access-control-request-headers")
            for name in value.split(",", MAX_REQUESTED)[:MAX_REQUESTED]
        ]
        allowed = [name for name in asked if _ALLOWED_HEADER.fullmatch(name)]
        names = dict.fromkeys(["content-type", "authorization", "x-api-key", *allowed])
        headers = [
            (b"access-control-allow-methods", ALLOW_METHODS),
            (b"access-control-allow-headers", ", ".join(names).encode()),
            (b"access-control-max-age", str(MAX_AGE_SECONDS).encode()),
            (b"vary", b"Access-Control-Request-Headers"),
        ]
        # A browser asks this before it lets a page of the network speak to a server of the machine.
        if any(_values(scope, b"access-control-request-private-network")):
            headers.append((b"access-control-allow-private-network", b"true"))
        return headers

    def _allows(self, scope: Scope, origin: str) -> bool:
        return self._policy.allows_origin(origin, _values(scope, b"host"))

    def _foreign_origin(self) -> ApiError:
        return ApiError(
            403,
            "pages of this origin may not use this server; --cors-origin ORIGIN (ESPALIER_CORS_ORIGIN) allows one",
            code="origin_not_allowed",
        )


def _values(scope: Scope, name: bytes) -> Iterator[str]:
    return (value.decode("latin-1") for key, value in scope["headers"] if key == name)
