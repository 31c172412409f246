"""One choice of an answer: an admitted request, its text, and the pieces that it comes in."""

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from engine import SamplingParams, TokenEvent, TokenLogprobs
from engine.answers.parts import Part, Text
from engine.choosing import NOTHING_ALLOWED
from engine.guides.guide import Guide
from engine.text.stream import TextStream
from engine.text.tokenizer import Tokenizer
from server.errors import ApiError
from server.generations.pieces import FinishReason, Piece, Progress, TokenText
from server.generations.prompts import Prompt, prompt_tokens, shown_prompt
from server.generations.token_texts import TokenTexts


class Reader(Protocol):
    """Takes the text of an answer apart (engine/answers)."""

    @property
    def is_thinking(self) -> bool: ...

    def push(self, text: str) -> list[Part]: ...

    def flush(self) -> list[Part]: ...


@dataclass(frozen=True)
class Ask:
    """What a client wants of its prompts, in the words of the engine.

    params: seed and logprobs are each choice's own (`Generation`). reader, guide: make a new one for each choice.
    shown: control tokens that the reader sees as text. prompt_logprobs: of how many likely tokens, besides the
    prompt's own; None: none. tells_prompt_logprobs: apart from an echo.
    """

    params: SamplingParams
    stops: tuple[str, ...] = ()
    n: int = 1
    best_of: int = 1
    keeps_stop: bool = False
    echo: bool = False
    wants_tokens: bool = False
    prompt_logprobs: int | None = None
    tells_prompt_logprobs: bool = False
    progress: bool = False
    reader: Callable[[], Reader] | None = None
    guide: Callable[[Prompt], Guide | None] | None = None
    shown: tuple[str, ...] = ()


class Choice:
    """Takes in the events of its request until it has ended. Nobody else knows when that is."""

    def __init__(self, tokenizer: Tokenizer, prompt: Prompt, ask: Ask, index: int) -> None:
        self.request_id = uuid.uuid4().hex
        self.index = index
        self.prompt = prompt
        self.is_open = True
        self.n_cached = self.n_completion = self.n_reasoning = 0
        self.logprob_sum = 0.0
        self.prompt_logprobs: list[TokenLogprobs] = []
        self._tokenizer = tokenizer
        self._ask = ask
        skips_space = prompt.hides_space(tokenizer)
        self._text = TextStream(
            tokenizer,
            ask.stops,
            skip_leading_space=skips_space,
            keeps_stop=ask.keeps_stop,
            shown=ask.shown,
        )
        self._reader = ask.reader() if ask.reader is not None else None
        self._echo = shown_prompt(tokenizer, prompt) if ask.echo else ""
        self._owes_echo = ask.echo
        self._owes_progress = ask.progress and index == 0
        self._tokens: TokenTexts | None = None
        if ask.wants_tokens:
            self._tokens = TokenTexts(tokenizer, skip_leading_space=skips_space, offset=len(self._echo))
        self._due: list[TokenText] = []  # tokens whose text the reader holds back

    def take(self, event: TokenEvent) -> Piece | None:
        """What an event adds, None where that is nothing yet. Raises ApiError when the engine failed."""
        if not self.is_open:  # tokens that were chosen after the one that completed a stop string
            return None
        if event.finish_reason == "error":
            raise _failure(event.error)
        self.n_cached = event.n_cached
        self.prompt_logprobs += event.prompt_logprobs
        piece = None
        if event.token_ids or event.finish_reason is not None:
            piece = self._taken(event)
        if not self._owes_progress:
            return piece
        self._owes_progress = event.n_read < event.n_prompt
        progress = Progress(event.n_read, event.n_prompt, event.n_cached)
        return replace(piece or Piece(self.index), progress=progress)

    def _taken(self, event: TokenEvent) -> Piece | None:
        delta = self._text.push(event.token_ids)
        n_tokens = delta.n_tokens
        self.n_completion += n_tokens
        self.logprob_sum += sum(each.logprob for each in event.logprobs[:n_tokens])
        if self._tokens is not None:
            self._tokens.add(event.token_ids[:n_tokens], delta.produced, event.logprobs)
        parts = self._echoed() + [part for text in delta.released for part in self._read_token(text)]
        if not delta.stopped and event.finish_reason is None:
            self._hold(self._released(len(delta.text)))
            return self._piece(parts) if parts else None
        self.is_open = False
        return self._ended(event, parts, delta.text, delta.stopped)

    def _ended(self, event: TokenEvent, parts: list[Part], text: str, stopped: bool) -> Piece:
        """The last piece: text has been released with it so far."""
        if not stopped:
            rest = self._text.flush()
            text += rest.text
            stopped = rest.stopped
            parts += self._read(rest.text)
        if self._reader is not None:
            parts += self._reader.flush()
        self._hold(self._released(len(text)))
        if self._tokens is not None:
            self._hold(self._tokens.release_begun() if stopped else self._tokens.release_all())
        reason: FinishReason = "length" if event.finish_reason == "length" and not stopped else "stop"
        stop_reason = self._text.stopped_by if stopped else self._named_stop(event)
        return replace(self._piece(parts), finish_reason=reason, stop_reason=stop_reason)

    def _named_stop(self, event: TokenEvent) -> int | None:
        """The token that ended it, where the client named it."""
        return event.stop_token if event.stop_token in self._ask.params.stop_token_ids else None

    def _read_token(self, text: str) -> list[Part]:
        """What a token released. A token of thought is one that began or ended as thought."""
        was_thinking = self._is_thinking
        parts = self._read(text)
        self.n_reasoning += was_thinking or self._is_thinking
        return parts

    def _read(self, text: str) -> list[Part]:
        """The parts that a text completes."""
        if not text:
            return []
        return [Text(text)] if self._reader is None else self._reader.push(text)

    @property
    def _is_thinking(self) -> bool:
        return self._reader is not None and self._reader.is_thinking

    def _echoed(self) -> list[Part]:
        """The prompt, in front of the first piece. Its log-probabilities have all come by then."""
        if not self._owes_echo:
            return []
        self._owes_echo = False
        if self._ask.wants_tokens:
            self._due += prompt_tokens(self._tokenizer, self.prompt, self.prompt_logprobs)
        return [Text(self._echo)] if self._echo else []

    def _released(self, n_characters: int) -> Sequence[TokenText]:
        return () if self._tokens is None else self._tokens.release(n_characters)

    def _hold(self, tokens: Sequence[TokenText]) -> None:
        self._due += tokens

    def _piece(self, parts: Sequence[Part]) -> Piece:
        tokens, self._due = tuple(self._due), []
        return Piece(self.index, tuple(parts), tokens)


def _failure(error: str | None) -> ApiError:
    """Ours to answer for, unless the request leaves no token to choose."""
    if error == NOTHING_ALLOWED:
        text = (
            "no token is left to choose: what the request allows and the form it asks for exclude each other"
        )
        return ApiError(400, text, code="nothing_allowed")
    return ApiError(500, error or "the request failed")
