"""How the answers to a chat are taken apart: thoughts, content, calls of the request's tools."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from engine.answers.calls.reading import CallFormat
from engine.answers.reader import AnswerReader
from engine.answers.thoughts import ThoughtMarks, ends_thinking, is_thought_over, starts_thinking
from engine.answers.tool import Tool


@dataclass(frozen=True)
class ThoughtsOf:
    """What the thoughts of an answer can be. marks: None where the model writes none.

    is_open: the prompt has opened one. may_be: it has not ended one, so that the answer may open one.
    """

    marks: ThoughtMarks | None
    is_open: bool = False
    may_be: bool = False

    @classmethod
    def prompt(cls, marks: ThoughtMarks | None, text: str, continued: str | None) -> "ThoughtsOf":
        """text: the rendered prompt. continued: the message that the answer continues; None: it begins a new one."""
        if marks is None:
            return NO_THOUGHTS
        if continued is not None:
            is_open = ends_thinking(marks, continued)
            return cls(marks, is_open, may_be=is_open or not continued)
        return cls(marks, starts_thinking(marks, text), may_be=not is_thought_over(marks, text))


NO_THOUGHTS = ThoughtsOf(None)


@dataclass(frozen=True)
class Reading:
    """make: a reader for one choice. shown: control tokens that it sees as text."""

    make: Callable[[], AnswerReader]
    shown: tuple[str, ...]


def reading_of(thoughts: ThoughtsOf, calls: CallFormat | None, tools: Sequence[Tool]) -> Reading | None:
    """None where an answer is content alone. Calls are looked for where the request has tools."""
    calls = calls if tools else None
    marks, is_open = thoughts.marks, thoughts.is_open
    if marks is None and calls is None:
        return None
    return Reading(
        make=lambda: AnswerReader(marks, calls, tools, starts_thinking=is_open),
        shown=(
            *((marks.begin, marks.end) if marks is not None else ()),
            *(calls.shown if calls is not None else ()),
        ),
    )
