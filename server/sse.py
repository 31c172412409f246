"""Pieces of text to server-sent events. What does not change in an answer is written once, as bytes; a token costs
one json.dumps of its text and two joins."""

import json
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from functools import partial
from typing import Any

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from server.errors import ApiError, error_object
from server.generation import Answer, Piece, Usage, arrivals, close_all, usage_of
from server.settings import Settings

logger = logging.getLogger("espalier.server")

DONE = b"data: [DONE]\n\n"
PING = b": ping\n\n"  # a comment, which clients skip
_HEADERS = {"cache-control": "no-store", "x-accel-buffering": "no"}  # no proxy may hold events back
SoFar = Callable[[], Usage]
_MARK = "\x00piece\x00"


class Frames:
    """The events of one answer: kind "chat" or "text"; base holds id, object, created, model, ...

    include_usage: the last event carries the usage. continuous_usage: every event carries the usage so far,
    which each method asks for; without it none is counted.
    """

    def __init__(
        self, base: dict[str, Any], *, chat: bool, include_usage: bool, continuous_usage: bool = False
    ) -> None:
        self.include_usage = include_usage
        self.continuous_usage = continuous_usage
        self._base = base
        self._chat = chat
        self._templates: dict[int, tuple[bytes, bytes]] = {}

    @property
    def answer_id(self) -> str:
        return str(self._base["id"])

    def role(self, index: int, so_far: SoFar) -> bytes:
        return self._event(index, {"delta": {"role": "assistant", "content": ""}}, so_far)

    def text(self, index: int, text: str, so_far: SoFar) -> bytes:
        if self.continuous_usage:
            return self._event(index, self._content(text), so_far)
        if index not in self._templates:
            before, after = self._event(index, self._content(_MARK), so_far).split(json.dumps(_MARK).encode())
            self._templates[index] = before, after
        before, after = self._templates[index]
        return before + json.dumps(text).encode() + after

    def finish(self, index: int, reason: str, so_far: SoFar) -> bytes:
        return self._event(index, {"delta": {}} if self._chat else {"text": ""}, so_far, reason)

    def usage(self, total: Usage) -> bytes:
        return _data({**self._base, "choices": [], "usage": total.as_dict()})

    def _content(self, text: str) -> dict[str, Any]:
        return {"delta": {"content": text}} if self._chat else {"text": text}

    def _event(self, index: int, content: dict[str, Any], so_far: SoFar, reason: str | None = None) -> bytes:
        choice = {"index": index, **content, "logprobs": None, "finish_reason": reason}
        return _data({**self._base, "choices": [choice], **self._usage_field(so_far)})

    def _usage_field(self, so_far: SoFar) -> dict[str, Any]:
        if self.continuous_usage:
            return {"usage": so_far().as_dict()}
        return {"usage": None} if self.include_usage else {}


def _data(value: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(value, separators=(",", ":")).encode() + b"\n\n"


class EventStream(StreamingResponse):
    """The stream of one client request. Starlette watches for the client to leave, the connection for one that takes
    nothing (http_protocol.py), so that no event needs a timer. However a stream ends, its requests end too."""

    def __init__(self, answers: Sequence[Answer], frames: Frames, settings: Settings, *, chat: bool) -> None:
        body = events(answers, frames, chat=chat, ping_seconds=settings.ping_seconds)
        super().__init__(body, headers=_HEADERS, media_type="text/event-stream; charset=utf-8")
        self._answers = answers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            close_all(self._answers)


async def events(
    answers: Sequence[Answer], frames: Frames, *, chat: bool, ping_seconds: float
) -> AsyncIterator[bytes]:
    """The whole stream, [DONE] included; events that came together are one piece. Comments keep a silent one open.

    Any exception, ours too, ends it in an event that says so: a client cannot tell a stream that stops without one
    from a whole answer.
    """
    so_far = partial(usage_of, answers)
    try:
        if chat:
            yield b"".join(frames.role(index, so_far) for index in range(len(answers)))
        async for pieces in arrivals(answers, wake_seconds=ping_seconds):
            yield b"".join(frame for piece in pieces for frame in _frames_of(piece, frames, so_far)) or PING
        if frames.include_usage:
            yield frames.usage(so_far())
    except ApiError as error:
        yield _data(error_object(error.status, error.message, param=error.param, code=error.code))
    except Exception:
        logger.exception("stream %s failed", frames.answer_id)
        yield _data(error_object(500, f"internal error; the server's log has it under {frames.answer_id}"))
    yield DONE


def _frames_of(piece: Piece, frames: Frames, so_far: SoFar) -> Iterator[bytes]:
    if piece.text:
        yield frames.text(piece.index, piece.text, so_far)
    if piece.finish_reason is not None:
        yield frames.finish(piece.index, piece.finish_reason, so_far)
