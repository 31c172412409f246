"""One answer: from prompt ids to pieces of text with a finish reason, whoever carries them to the client."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Literal

from engine import SamplingParams
from engine.text.stream import TextStream
from server.engine_thread import EngineStream, EngineThread
from server.errors import ApiError


@dataclass(frozen=True)
class Piece:
    """What a step added to choice `index`. The last one of a choice has a finish_reason."""

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
    """An admitted request and its text. `close` is owed; it aborts what is not finished."""

    def __init__(
        self, thread: EngineThread, stream: EngineStream, text: TextStream, index: int, deadline: float
    ) -> None:
        self._thread, self._stream, self._text = thread, stream, text
        self._index = index
        self._deadline = deadline
        self.usage = Usage()

    @classmethod
    async def begin(
        cls,
        thread: EngineThread,
        prompt_ids: Sequence[int],
        params: SamplingParams,
        stops: Sequence[str],
        *,
        index: int = 0,
        seconds: float = 3600.0,
    ) -> "Answer":
        """Admit the request. Raises RequestError or ApiError before a byte has been sent."""
        tokenizer = thread.engine.tokenizer
        assert tokenizer is not None, "a served model has a vocabulary"
        begins_text = bool(prompt_ids) and tokenizer.adds_space_after(prompt_ids[-1])
        text = TextStream(tokenizer, stops, skip_leading_space=begins_text)
        stream = await thread.submit(uuid.uuid4().hex, prompt_ids, params)
        answer = cls(thread, stream, text, index, asyncio.get_running_loop().time() + seconds)
        answer.usage.n_prompt = len(prompt_ids)
        return answer

    def close(self) -> None:
        self._thread.abort(self._stream.request_id)

    async def pieces(self) -> AsyncIterator[Piece]:
        """Never an empty piece but the last. Raises ApiError when the engine fails or the deadline passes."""
        try:
            async for event in self._stream.until(self._deadline):
                if event.finish_reason == "error":
                    raise ApiError(500, event.error or "the request failed")
                delta = self._text.push(event.token_ids)
                self.usage.n_completion += delta.n_tokens
                self.usage.n_cached = event.n_cached
                if delta.stopped:
                    yield Piece(self._index, delta.text, "stop")
                    return
                if event.finish_reason is not None:
                    rest = self._text.flush()
                    reason = "stop" if rest.stopped else event.finish_reason
                    yield Piece(
                        self._index, delta.text + rest.text, "length" if reason == "length" else "stop"
                    )
                    return
                if delta.text:
                    yield Piece(self._index, delta.text)
        except TimeoutError:
            raise ApiError(504, "the request took longer than this server allows", code="timeout") from None
        finally:
            self.close()


async def interleaved(answers: Sequence[Answer]) -> AsyncIterator[Piece]:
    """The pieces of several answers as they come. An error of one ends all."""
    if len(answers) == 1:
        async for piece in answers[0].pieces():
            yield piece
        return
    arrived: asyncio.Queue[Piece | Exception | None] = asyncio.Queue()

    async def forward(answer: Answer) -> None:
        try:
            async for piece in answer.pieces():
                arrived.put_nowait(piece)
            arrived.put_nowait(None)
        except Exception as error:
            arrived.put_nowait(error)

    tasks = [asyncio.create_task(forward(answer)) for answer in answers]
    try:
        n_open = len(tasks)
        while n_open:
            item = await arrived.get()
            if isinstance(item, Exception):
                raise item
            if item is None:
                n_open -= 1
            else:
                yield item
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def usage_of(answers: Sequence[Answer]) -> Usage:
    """The tokens of all choices together, so far."""
    usages = [answer.usage for answer in answers]
    return Usage(
        sum(usage.n_prompt for usage in usages),
        sum(usage.n_cached for usage in usages),
        sum(usage.n_completion for usage in usages),
    )
