"""From prompt ids to pieces of text with a finish reason; streams and whole answers are made from the same pieces."""

import asyncio
import math
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from engine import SamplingParams, TokenEvent
from engine.text.stream import TextStream
from server.engine_thread import EngineThread, EventQueue
from server.errors import ApiError


@dataclass(frozen=True)
class Piece:
    """What steps added to choice `index`. The last one of a choice has a finish_reason."""

    index: int
    text: str
    finish_reason: Literal["stop", "length"] | None = None


@dataclass
class Usage:
    """Tokens so far; grows while the answer does."""

    n_prompt: int = 0
    n_cached: int = 0
    n_completion: int = 0

    def as_dict(self) -> dict[str, object]:
        return {
            "prompt_tokens": self.n_prompt,
            "completion_tokens": self.n_completion,
            "total_tokens": self.n_prompt + self.n_completion,
            "prompt_tokens_details": {"cached_tokens": self.n_cached},
            "completion_tokens_details": {"reasoning_tokens": 0},
        }


class Answer:
    """One choice: an admitted request and its text. `close` is owed; it aborts what is not finished.

    events: where the choices of one client request meet. deadline: of the event loop's clock.
    """

    def __init__(
        self,
        thread: EngineThread,
        text: TextStream,
        *,
        n_prompt: int,
        events: EventQueue,
        index: int,
        deadline: float,
    ) -> None:
        self.request_id = uuid.uuid4().hex
        self.events = events
        self.deadline = deadline
        self.usage = Usage(n_prompt=n_prompt)
        self.is_open = True
        self._thread, self._text, self._index = thread, text, index

    @classmethod
    async def begin(
        cls,
        thread: EngineThread,
        prompt_ids: Sequence[int],
        params: SamplingParams,
        stops: Sequence[str],
        *,
        events: EventQueue,
        index: int = 0,
        seconds: float = 3600.0,
    ) -> "Answer":
        """Admit the request. Raises RequestError or ApiError before a byte has been sent."""
        tokenizer = thread.engine.tokenizer
        assert tokenizer is not None, "a served model has a vocabulary"
        begins_text = bool(prompt_ids) and tokenizer.adds_space_after(prompt_ids[-1])
        text = TextStream(tokenizer, stops, skip_leading_space=begins_text)
        deadline = asyncio.get_running_loop().time() + seconds
        answer = cls(thread, text, n_prompt=len(prompt_ids), events=events, index=index, deadline=deadline)
        await thread.submit(answer.request_id, prompt_ids, params, events)
        return answer

    def close(self) -> None:
        self.is_open = False
        self._thread.abort(self.request_id)

    def take(self, event: TokenEvent) -> Piece | None:
        """What an event adds to the text, None where that is nothing yet. Raises ApiError when the engine failed."""
        if not self.is_open:  # tokens that were chosen after the one that completed a stop string
            return None
        if event.finish_reason == "error":
            raise ApiError(500, event.error or "the request failed")
        delta = self._text.push(event.token_ids)
        self.usage.n_completion += delta.n_tokens
        self.usage.n_cached = event.n_cached
        if delta.stopped:
            self.close()
            return Piece(self._index, delta.text, "stop")
        if event.finish_reason is None:
            return Piece(self._index, delta.text) if delta.text else None
        self.close()
        rest = self._text.flush()
        reason: Literal["stop", "length"] = "stop"
        if event.finish_reason == "length" and not rest.stopped:
            reason = "length"
        return Piece(self._index, delta.text + rest.text, reason)


async def arrivals(
    answers: Sequence[Answer], *, wake_seconds: float = math.inf
) -> AsyncIterator[list[Piece]]:
    """The pieces of one client request's choices, in lists of those that came together: after each step of the
    engine for a client that keeps up, more at once for one that does not. Every wake_seconds in which the consumer
    waits there is an empty list. Never an empty piece but the last of a choice.

    Raises ApiError when one of them fails or the deadline passes, and that ends all.
    """
    loop = asyncio.get_running_loop()
    queue, deadline = answers[0].events, answers[0].deadline
    by_id = {answer.request_id: answer for answer in answers}

    timer: asyncio.TimerHandle | None = None

    def set_timer() -> None:
        nonlocal timer
        timer = loop.call_at(min(loop.time() + wake_seconds, deadline), wake)

    def wake() -> None:
        queue.wake()
        if loop.time() < deadline:
            set_timer()

    set_timer()
    try:
        while any(answer.is_open for answer in answers):
            events = await queue.take()
            pieces, failure = _pieces(events, by_id)
            if pieces or not events:
                yield pieces
            if failure is not None:
                raise failure
            if loop.time() >= deadline:
                raise ApiError(504, "the request took longer than this server allows", code="timeout")
    finally:
        if timer is not None:
            timer.cancel()


def _pieces(events: Sequence[TokenEvent], by_id: Mapping[str, Answer]) -> tuple[list[Piece], ApiError | None]:
    """What came before a failure is told before it."""
    pieces: list[Piece] = []
    for event in events:
        try:
            piece = by_id[event.request_id].take(event)
        except ApiError as error:
            return pieces, error
        if piece is not None:
            pieces.append(piece)
    return pieces, None


def close_all(answers: Sequence[Answer]) -> None:
    for answer in answers:
        answer.close()


def usage_of(answers: Sequence[Answer]) -> Usage:
    """The tokens of all choices together, so far."""
    usages = [answer.usage for answer in answers]
    return Usage(
        sum(usage.n_prompt for usage in usages),
        sum(usage.n_cached for usage in usages),
        sum(usage.n_completion for usage in usages),
    )
