"""What a dialect of the API is: the one place where pieces of an answer become its words.

Generation knows no dialect, and a dialect knows no engine.
"""

import json
from collections.abc import Sequence
from typing import Any, Protocol

from server.errors import ApiError, error_object
from server.generations.generation import Generation
from server.generations.pieces import Piece

DONE = b"data: [DONE]\n\n"


class Envelope(Protocol):
    """Made for one answer, whole or streamed. A stream is begin, chunks, then end or error, then done; each gives
    whole server-sent events, perhaps none."""

    answer_id: str
    done: bytes

    def begin(self, generation: Generation) -> bytes: ...

    def chunk(self, piece: Piece, generation: Generation) -> bytes: ...

    def end(self, generation: Generation) -> bytes: ...

    def error(self, error: ApiError) -> bytes: ...

    def whole(self, answers: Sequence[Piece], generation: Generation) -> dict[str, Any]:
        """The body of an answer that is not streamed."""


def event(value: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(value, separators=(",", ":")).encode() + b"\n\n"


def error_event(error: ApiError) -> bytes:
    """The client sees the error's object as it would be in an answer with a status of its own."""
    return event(
        error_object(error.status, error.message, param=error.param, code=error.code, extra=error.extra)
    )
