"""The paths that people send, brought to the route they mean, and what to say where there is none.

`//v1/chat/completions`, `/v1/models/` and `/v1/v1/completions` come from base URLs joined with paths; some clients
leave `/v1` out, others write it before /health. All are the same route, served in place: a redirect would lose a
POST's body. What asks for a key is decided on the path that results.
"""

import difflib
from collections.abc import Iterator, Sequence

from starlette.applications import Starlette
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

VERSION = "/v1"
SHOWN = 100  # characters of a path in a message
TYPO = 0.8  # likeness, of 1, from which a path counts as another one misspelt
_CHAT = f"{VERSION}/chat/completions"
_TEXT = f"{VERSION}/completions"
#: What other servers call these routes, by a word of their path; the first that fits.
_WORDS = {"chat": _CHAT, "message": _CHAT, "response": _CHAT, "completion": _TEXT, "generate": _TEXT,
          "embed": f"{VERSION}/embeddings",
          "model": f"{VERSION}/models", "tags": f"{VERSION}/models"}  # fmt: skip


def served(router: Starlette | Router) -> list[Route]:
    """The routes of an application or a router itself, without those of routers it includes."""
    return [route for route in router.routes if isinstance(route, Route)]


class CanonicalPaths:
    """Pure ASGI: replaces a request's path by that of the route it means; `asked_path` keeps what was sent."""

    def __init__(self, app: ASGIApp, routes: Sequence[Route]) -> None:
        self.app, self._routes = app, routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            asked = scope["path"]
            path = canonical(asked, self._routes)
            if path != asked:
                scope = {**scope, "path": path, "raw_path": path.encode()}
            scope["state"] = {**scope.get("state", {}), "asked_path": asked}
        await self.app(scope, receive, send)


def canonical(path: str, routes: Sequence[Route]) -> str:
    """The path of the route that is meant; of none, the path without empty parts."""
    candidates = list(_candidates(path))
    return next((c for c in candidates if any(r.path_regex.match(c) for r in routes)), candidates[0])


def _candidates(path: str) -> Iterator[str]:
    parts = [part for part in path.split("/") if part]
    versions = next((i for i, part in enumerate(parts) if part != VERSION[1:]), len(parts))
    bare = "/" + "/".join(parts[versions:])
    versioned = VERSION + bare.rstrip("/")
    yield from (versioned, bare) if versions else (bare, versioned)


def methods_by_path(routes: Sequence[Route]) -> dict[str, list[str]]:
    """The served paths and their methods; HEAD goes without saying beside GET."""
    return {
        route.path.replace(":path}", "}"): sorted((route.methods or set()) - {"HEAD"})
        for route in routes
        if route.include_in_schema
    }


def nearest_route(path: str, routes: Sequence[Route]) -> str:
    """Method and path of the route that a path may mean: "POST /v1/chat/completions"."""
    methods = methods_by_path(routes)
    lower = path[:SHOWN].lower()
    by_word = next((route for word, route in _WORDS.items() if word in lower), None)
    close = difflib.get_close_matches(canonical(lower, ()), methods, n=1, cutoff=TYPO)
    found = by_word or (close[0] if close else _CHAT)
    return f"{' or '.join(methods[found])} {found}"


def shown_path(path: str) -> str:
    """A path as it may stand in a message or a log line: bounded, nothing in it that a terminal obeys."""
    return ascii(path[:SHOWN])[1:-1][:SHOWN] + ("..." if len(path) > SHOWN else "")
