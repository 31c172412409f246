"""How the answers to a chat are taken apart: thoughts, content, calls of the request's tools."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from engine.answers.formats import AnswerFormat
from engine.answers.reader import AnswerReader
from engine.answers.thoughts import ends_thinking, starts_thinking
from engine.answers.tool import Tool


@dataclass(frozen=True)
class Reading:
    """make: a reader for one choice. shown: control tokens that it sees as text."""

    make: Callable[[], AnswerReader]
    shown: tuple[str, ...]
    starts_thinking: bool


def reading_of(
    answer_format: AnswerFormat, tools: Sequence[Tool], prompt_text: str, continued: str | None
) -> Reading | None:
    """None where an answer is content alone. continued: the message that it continues; None: it begins a new one."""
    thoughts, calls = answer_format.thoughts, answer_format.calls if tools else None
    if thoughts is None and calls is None:
        return None
    starts = False
    if thoughts is not None:
        starts = starts_thinking(thoughts, prompt_text)
        if continued is not None:
            starts = ends_thinking(thoughts, continued)
    return Reading(
        make=lambda: AnswerReader(thoughts, calls, tools, starts_thinking=starts),
        shown=(
            *((thoughts.begin, thoughts.end) if thoughts is not None else ()),
            *(calls.shown if calls is not None else ()),
        ),
        starts_thinking=starts,
    )
