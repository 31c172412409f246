"""OpenAI's text completions: prompts and what follows them."""

from collections.abc import Sequence
from typing import Any

from engine.text.tokenizer import Tokenizer
from server.envelopes.logprobs import completion_logprobs
from server.envelopes.openai import OpenAIEnvelope, Shape, ids_of
from server.generations.generation import Generation
from server.generations.pieces import Piece, TokenText, text_of


class TextEnvelope(OpenAIEnvelope):
    """There is no event before the first text of a choice; its prompt's fields come with that one."""

    def __init__(self, base: dict[str, Any], shape: Shape, tokenizer: Tokenizer) -> None:
        super().__init__(base, shape, tokenizer)
        self._begun: set[int] = set()

    def begin(self, generation: Generation) -> bytes:
        return b""

    def chunk(self, piece: Piece, generation: Generation) -> bytes:
        if piece.progress is not None:
            told = self.progress(piece, generation, self._choice(piece.index, ""))
            return told + b"".join(self._events(piece, generation))
        quick = self.quick(piece, lambda text: self._choice(piece.index, text))
        return b"".join(self._events(piece, generation)) if quick is None else quick

    def _events(self, piece: Piece, generation: Generation) -> list[bytes]:
        text, tokens = text_of(piece.parts), piece.tokens
        made = []
        if text:
            choice = self._choice(piece.index, text, tokens) | self._first_fields(piece.index, generation)
            made.append(self.of_choice(choice, generation))
            tokens = ()
        if piece.finish_reason is not None:
            choice = self._choice(piece.index, "", tokens, piece.finish_reason)
            choice |= self._first_fields(piece.index, generation)
            if piece.stop_reason is not None:
                choice["stop_reason"] = piece.stop_reason
            made.append(self.of_choice(choice, generation, timings=generation.timings))
        return made

    def _first_fields(self, index: int, generation: Generation) -> dict[str, Any]:
        if index in self._begun:
            return {}
        self._begun.add(index)
        return self.prompt_fields(generation, index // generation.ask.best_of)

    def _choice(
        self, index: int, text: str, tokens: Sequence[TokenText] = (), reason: str | None = None
    ) -> dict[str, Any]:
        choice = {
            "index": index,
            "text": text,
            "logprobs": self._logprobs(tokens) if tokens else None,
            "finish_reason": reason,
        }
        if self.shape.token_ids:
            choice["token_ids"] = ids_of(tokens)
        return choice

    def _logprobs(self, tokens: Sequence[TokenText]) -> dict[str, Any] | None:
        if self.shape.logprobs is None:
            return None
        ids = self.shape.ids_as_tokens
        return completion_logprobs(self.tokenizer, tokens, self.shape.logprobs, ids_as_tokens=ids)

    def whole(self, answers: Sequence[Piece], generation: Generation) -> dict[str, Any]:
        choices = []
        for piece in answers:
            choice = self._choice(piece.index, text_of(piece.parts), piece.tokens, piece.finish_reason)
            choice["logprobs"] = self._logprobs(piece.tokens)
            if piece.stop_reason is not None:
                choice["stop_reason"] = piece.stop_reason
            choices.append(choice | self.prompt_fields(generation, piece.index // generation.ask.n))
        return self.whole_answer(choices, generation)
