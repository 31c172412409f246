"""Pieces of text to server-sent events. What does not change in an answer is written once, as bytes; a token costs
one json.dumps of its text and two joins."""

import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

from sse_starlette.event import ServerSentEvent
from sse_starlette.sse import EventSourceResponse

from server.errors import ApiError, error_object
from server.generation import Answer, Piece, interleaved
from server.settings import Settings

DONE = b"data: [DONE]\n\n"
_MARK = "\x00piece\x00"


class Frames:
    """The events of one answer: kind "chat" or "text"; base holds id, object, created, model, ..."""

    def __init__(self, base: dict[str, Any], *, chat: bool, include_usage: bool) -> None:
        self._base = base
        self._chat = chat
        self._usage_field = {"usage": None} if include_usage else {}
        self._templates: dict[int, tuple[bytes, bytes]] = {}

    def role(self, index: int) -> bytes:
        return self._event(index, {"delta": {"role": "assistant", "content": ""}})

    def text(self, index: int, text: str) -> bytes:
        if index not in self._templates:
            content = {"delta": {"content": _MARK}} if self._chat else {"text": _MARK}
            before, after = self._event(index, content).split(json.dumps(_MARK).encode())
            self._templates[index] = before, after
        before, after = self._templates[index]
        return before + json.dumps(text).encode() + after

    def finish(self, index: int, reason: str) -> bytes:
        return self._event(index, {"delta": {}} if self._chat else {"text": ""}, reason)

    def usage(self, usage: dict[str, Any]) -> bytes:
        return _data({**self._base, "choices": [], "usage": usage})

    def _event(self, index: int, content: dict[str, Any], reason: str | None = None) -> bytes:
        choice = {"index": index, **content, "logprobs": None, "finish_reason": reason}
        return _data({**self._base, "choices": [choice], **self._usage_field})


def _data(value: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(value, separators=(",", ":")).encode() + b"\n\n"


async def events(
    answers: Sequence[Answer], frames: Frames, total_usage: Any, *, chat: bool
) -> AsyncIterator[bytes]:
    """The whole stream, [DONE] included. total_usage: None, or a function that gives the final usage."""
    try:
        if chat:
            for index in range(len(answers)):
                yield frames.role(index)
        async for piece in interleaved(answers):
            for frame in _frames_of(piece, frames):
                yield frame
        if total_usage is not None:
            yield frames.usage(total_usage())
    except ApiError as error:
        yield _data(error_object(error.status, error.message, param=error.param, code=error.code))
    finally:
        for answer in answers:
            answer.close()
    yield DONE


def _frames_of(piece: Piece, frames: Frames) -> list[bytes]:
    out = [frames.text(piece.index, piece.text)] if piece.text else []
    if piece.finish_reason is not None:
        out.append(frames.finish(piece.index, piece.finish_reason))
    return out


def response(body: AsyncIterator[bytes], settings: Settings) -> EventSourceResponse:
    """The stream as a response; comments keep it open through long prefills."""
    return EventSourceResponse(
        body,
        media_type="text/event-stream; charset=utf-8",
        sep="\n",
        ping=settings.ping_seconds,
        ping_message_factory=lambda: ServerSentEvent(comment="ping", sep="\n"),
        send_timeout=settings.send_seconds or None,
    )
