"""A request body, from raw bytes to what a route is asked for. Every client mistake is a 400 that echoes nothing.

Not FastAPI's own parsing, which answers NaN, lone surrogates and binary bodies with 500 and returns the input.
"""

import json
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

from starlette.requests import ClientDisconnect, Request

from server.errors import ApiError

PARSE_ASIDE_BYTES = 1 << 16  # larger bodies are parsed and checked off the event loop

Asked = TypeVar("Asked")


async def read_request(request: Request, read: Callable[[dict[str, Any]], Asked]) -> Asked:
    """read(the body as a JSON object). Raises ApiError 400, and as `read`."""
    try:
        raw = await request.body()
    except ClientDisconnect:
        raise ApiError(400, "the client left before its request was whole") from None
    if len(raw) <= PARSE_ASIDE_BYTES:
        return read(parse_object(raw))
    service = request.app.state.service
    return await service.text_pool.run(len(raw), lambda _: read(parse_object(raw)))


def parse_object(raw: bytes) -> dict[str, Any]:
    """Strict JSON: UTF-8, no NaN or Infinity, no key twice, an object at the top. Raises ApiError 400."""
    try:
        value = json.loads(
            raw.decode("utf-8"),
            object_pairs_hook=_object,
            parse_constant=_no_constant,
            parse_int=_integer,
            parse_float=_float,
        )
    except UnicodeDecodeError:
        raise ApiError(400, "the body is not UTF-8") from None
    except RecursionError:
        raise ApiError(400, "the body is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise ApiError(400, f"the body is not JSON: {error.msg} at byte {error.pos}") from None
    except ValueError as error:
        raise ApiError(400, f"the body is not JSON: {str(error)[:100]}") from None
    if not isinstance(value, dict):
        raise ApiError(400, "the body must be a JSON object")
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("an object has a key twice")
    return value


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


# json.loads holds the interpreter's lock until it calls something in Python. So numbers, of which a body can hold
# millions, are made here, and other threads go on in between.


def _integer(text: str) -> int:
    return int(text)


def _float(text: str) -> float:
    return float(text)
