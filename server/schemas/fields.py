"""One request field: whether it is honoured, accepted without a local meaning, or refused; and a body read by that.

The table itself is in field_table.py. A field is never dropped silently: what is in no table is counted, and named
once in the log.
"""

import json
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from itertools import islice
from typing import Any

from prometheus_client import Counter

from server.errors import ApiError
from server.schemas.values import ANY, BOOLEAN, Kind

logger = logging.getLogger("espalier.server")

UNKNOWN_FIELDS = Counter("espalier_unknown_request_fields_total", "Request fields in no table, dropped")
MAX_NAMED = 256  # unknown names that the log has seen; a client that makes names up must not fill memory
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_named: set[str] = set()

CHAT, COMPLETIONS = "chat/completions", "completions"
BOTH = frozenset({CHAT, COMPLETIONS})
EMPTY: tuple[Any, ...] = (None, "", [], {}, False)


class Use(Enum):
    """What the server does with a field. The value is the heading of the page that lists it."""

    HONOURED = "Honoured"
    ACCEPTED = "Accepted without a local meaning"
    REFUSED = "Refused"


@dataclass(frozen=True)
class RequestField:
    """One meaning and all names that clients have for it, in order of precedence.

    nothing: values that ask for nothing, besides EMPTY. false_asks: false is not among those. key: what the value
    sets; fields of one key are alternatives, the first in the table wins. idle: whether the body's other fields
    leave this one without effect, so that any value of it asks for nothing.
    """

    names: tuple[str, ...]
    use: Use
    about: str
    kind: Kind = ANY
    nothing: tuple[Any, ...] = ()
    false_asks: bool = False
    key: str = ""
    routes: frozenset[str] = BOTH
    required: bool = False
    idle: Callable[[Mapping[str, Any]], bool] | None = None

    def on(self, route: str) -> "RequestField":
        """The same field on another route alone."""
        return replace(self, routes=frozenset({route}))

    def asks_for_nothing(self, value: Any) -> bool:
        """Whether an answer with this value is the same as one without the field."""
        if self.required:
            return False
        if value is False:
            return not self.false_asks and self.kind is not BOOLEAN
        return any(_same(value, plain) for plain in (*EMPTY, *self.nothing))


class Table:
    """The fields of some routes, by name."""

    def __init__(self, fields: tuple[RequestField, ...]) -> None:
        self.fields = fields

    def of_route(self, route: str) -> dict[str, RequestField]:
        """Name -> field, in the table's order."""
        here = [field for field in self.fields if route in field.routes]
        return {name: field for field in here for name in field.names}


class Values:
    """The honoured fields of one body that ask for something, read."""

    def __init__(self, read: Mapping[str, list[Any]]) -> None:
        self._read = read

    def first(self, key: str, default: Any = None) -> Any:
        """The value by the name that precedes the others."""
        return self._read[key][0] if key in self._read else default

    def all(self, key: str) -> list[Any]:
        return self._read.get(key, [])


def read_body(body: Mapping[str, Any], known: Mapping[str, RequestField]) -> Values:
    """Raises ApiError 400 for a wrong or refused value, with the field's name as param.

    known: Table.of_route of the route that the body was sent to.
    """
    _count_unknown(body.keys() - known.keys())
    read: dict[str, list[Any]] = {}
    for name, field in known.items():
        if name not in body:
            if field.required:
                raise ApiError(400, f"{name} is missing", param=name)
        elif field.use is not Use.ACCEPTED and not field.asks_for_nothing(body[name]):
            if field.use is Use.HONOURED:
                read.setdefault(field.key or field.names[0], []).append(field.kind.read(body[name], name))
            elif field.idle is None or not field.idle(body):
                raise refused(field, name)
    return Values(read)


def refused(field: RequestField, name: str) -> ApiError:
    """What the field is, and what would work."""
    plain = [_shown(value) for value in field.nothing]
    works = f"leave it out, or send {' or '.join(plain)}" if plain else "leave it out"
    return ApiError(
        400,
        f"{name} is not supported by this server ({field.about}); {works}",
        param=name,
        code="unsupported_value",
    )


def _shown(value: Any) -> str:
    return json.dumps(value)


def _same(value: Any, plain: Any) -> bool:
    """Equality of JSON: 1 and 1.0 are one number, true is none."""
    if isinstance(value, bool) or isinstance(plain, bool):
        return value is plain
    return bool(value == plain)


def _count_unknown(names: set[str]) -> None:
    if not names:
        return
    UNKNOWN_FIELDS.inc(len(names))
    # Large bodies are read in threads, which may pass the limit together.
    n_more = max(MAX_NAMED - len(_named), 0)
    for name in sorted(islice(names - _named, n_more)):
        _named.add(name)
        shown = name if _PLAIN_NAME.fullmatch(name) else "(its name has other characters than a name's)"
        logger.warning("request field %s is not known here and was dropped; this is said once", shown)
