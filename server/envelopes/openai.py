"""What OpenAI's two completion dialects share: fields of every object, usage, timings, a quick way for text."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from engine.answers.parts import Text
from engine.text.tokenizer import Tokenizer
from server.envelopes.envelope import DONE, error_event, event
from server.envelopes.logprobs import prompt_logprobs
from server.errors import ApiError
from server.generations.generation import Generation
from server.generations.pieces import Piece, TokenText

_MARK = "\x00piece\x00"


@dataclass(frozen=True)
class Shape:
    """What a client wants to be told besides the answer.

    continuous_usage: the usage so far in every event. timings: likewise, where the last event and a whole answer have
    them anyway. ids_as_tokens: tokens are named by their ids.
    """

    include_usage: bool = False
    continuous_usage: bool = False
    logprobs: int | None = None
    token_ids: bool = False
    timings: bool = False
    ids_as_tokens: bool = False

    @property
    def is_plain(self) -> bool:
        """An event has nothing but its text that another has not."""
        return self.logprobs is None and not (self.continuous_usage or self.token_ids or self.timings)


def ids_of(tokens: Sequence[TokenText]) -> list[int]:
    """Of the answer, without the prompt that it repeats."""
    return [token.token_id for token in tokens if not token.is_prompt]


class OpenAIEnvelope:
    """base: id, object, created, model, ... of every object."""

    done = DONE

    def __init__(self, base: dict[str, Any], shape: Shape, tokenizer: Tokenizer) -> None:
        self.answer_id = str(base["id"])
        self.shape = shape
        self.tokenizer = tokenizer
        self._base = base
        self._templates: dict[int, tuple[bytes, bytes]] = {}

    def end(self, generation: Generation) -> bytes:
        if not self.shape.include_usage:
            return b""
        told = {**self.usage_field(generation), "usage": generation.usage.as_dict()}
        return event({**self._base, "choices": [], **told})

    def error(self, error: ApiError) -> bytes:
        return error_event(error)

    def quick(self, piece: Piece, choice_of: Callable[[str], dict[str, Any]]) -> bytes | None:
        """The event of a piece that is nothing but text, from a template made once; None for another."""
        if not self.shape.is_plain or piece.finish_reason is not None or len(piece.parts) != 1:
            return None
        [part] = piece.parts
        if not isinstance(part, Text):
            return None
        if piece.index not in self._templates:
            made = event({**self._base, "choices": [choice_of(_MARK)], **self.usage_field()})
            before, after = made.split(json.dumps(_MARK).encode())
            self._templates[piece.index] = before, after
        before, after = self._templates[piece.index]
        return before + json.dumps(part.text).encode() + after

    def of_choice(self, choice: dict[str, Any], generation: Generation, **more: Any) -> bytes:
        """An event of one choice. more: fields beside choices."""
        return event({**self._base, "choices": [choice], **self.usage_field(generation), **more})

    def usage_field(self, generation: Generation | None = None) -> dict[str, Any]:
        """And the timings so far, where every event has them."""
        told: dict[str, Any] = {"usage": None} if self.shape.include_usage else {}
        if self.shape.continuous_usage and generation is not None:
            told["usage"] = generation.usage.as_dict()
        if self.shape.timings and generation is not None:
            told["timings"] = generation.timings
        return told

    def progress(self, piece: Piece, generation: Generation, choice: dict[str, Any]) -> bytes:
        """llama.cpp's event while a prompt is read."""
        assert piece.progress is not None
        told = {
            "total": piece.progress.n_prompt,
            "cache": piece.progress.n_cached,
            "processed": piece.progress.n_read,
            "time_ms": generation.ms_so_far,
        }
        return self.of_choice(choice, generation, prompt_progress=told)

    def whole_answer(self, choices: Sequence[dict[str, Any]], generation: Generation) -> dict[str, Any]:
        return {
            **self._base,
            "choices": list(choices),
            "usage": generation.usage.as_dict(),
            "timings": generation.timings,
        }

    def prompt_fields(self, generation: Generation, prompt: int) -> dict[str, Any]:
        """What was asked of a prompt."""
        told: dict[str, Any] = {}
        choice = generation.choices[prompt * generation.ask.best_of]
        if self.shape.token_ids:
            told["prompt_token_ids"] = list(choice.prompt.token_ids)
        if generation.ask.tells_prompt_logprobs:
            told["prompt_logprobs"] = prompt_logprobs(self.tokenizer, choice.prompt, choice.prompt_logprobs)
        return told
