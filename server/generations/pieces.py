"""What a step adds to an answer, and a whole answer: both are pieces."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from engine import TokenLogprobs
from engine.answers.parts import CallArguments, CallStart, Part, Text, Thought

FinishReason = Literal["stop", "length"]


class TokenText(NamedTuple):
    """A token of an answer, or of the prompt that it repeats."""

    token_id: int
    data: bytes  # what it adds to the text; a part of a character where that has several tokens
    offset: int  # characters of the text before it
    logprobs: TokenLogprobs | None = None  # None: nobody asked, or nothing comes before the token
    is_prompt: bool = False


class Progress(NamedTuple):
    """How far a prompt has been read, in tokens."""

    n_read: int
    n_prompt: int
    n_cached: int


@dataclass(frozen=True, slots=True)
class Piece:
    """What steps added to choice `index`. The last one of a choice has a finish_reason.

    tokens: those that `parts` were made from, and those before them that showed nothing; none where the request does
    not ask for them.
    """

    index: int
    parts: tuple[Part, ...] = ()
    tokens: tuple[TokenText, ...] = ()
    finish_reason: FinishReason | None = None
    stop_reason: str | int | None = None  # the stop string or stop token that ended it
    progress: Progress | None = None


def joined(pieces: Sequence[Piece]) -> Piece:
    """The pieces of one choice as one: a part for each run of content or thoughts and two for each call."""
    last = pieces[-1]
    return Piece(
        last.index,
        joined_parts([part for piece in pieces for part in piece.parts]),
        tuple(token for piece in pieces for token in piece.tokens),
        last.finish_reason,
        last.stop_reason,
    )


def joined_parts(parts: Sequence[Part]) -> tuple[Part, ...]:
    """Runs of one kind as one part each; the arguments of a call come right after its start."""
    runs: list[tuple[Part, list[str]]] = []
    for part in parts:
        text = "" if isinstance(part, CallStart) else part.text
        if runs and not isinstance(part, CallStart) and _continues(runs[-1][0], part):
            runs[-1][1].append(text)
        else:
            runs.append((part, [text]))
    return tuple(_part(first, "".join(texts)) for first, texts in runs)


def _continues(before: Part, part: Part) -> bool:
    if isinstance(part, CallArguments):
        return isinstance(before, CallArguments) and before.index == part.index
    return type(before) is type(part)


def _part(first: Part, text: str) -> Part:
    if isinstance(first, CallStart):
        return first
    return replace(first, text=text)


def text_of(parts: Sequence[Part]) -> str:
    return "".join(part.text for part in parts if isinstance(part, Text))


def thoughts_of(parts: Sequence[Part]) -> str:
    return "".join(part.text for part in parts if isinstance(part, Thought))
