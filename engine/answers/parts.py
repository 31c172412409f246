"""The parts of an answer, in the order in which the model wrote them. A run of one kind may come in several."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Text:
    """Content."""

    text: str


@dataclass(frozen=True, slots=True)
class Thought:
    """Reasoning before the content."""

    text: str


@dataclass(frozen=True, slots=True)
class CallStart:
    """A tool call begins: the index-th of the answer, with its whole name."""

    index: int
    name: str


@dataclass(frozen=True, slots=True)
class CallArguments:
    """A piece of the JSON text of a call's arguments."""

    index: int
    text: str


Part = Text | Thought | CallStart | CallArguments
