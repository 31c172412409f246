"""Thoughts before an answer, and the marks that models write around them."""

from typing import NamedTuple


class ThoughtMarks(NamedTuple):
    """One family's."""

    name: str
    begin: str
    end: str


THOUGHT_FORMATS = {
    marks.name: marks
    for marks in (
        ThoughtMarks("think", "<think>", "</think>"),
        ThoughtMarks("magistral", "[THINK]", "[/THINK]"),
        ThoughtMarks("seed", "<seed:think>", "</seed:think>"),
        ThoughtMarks("exaone", "<thought>", "</thought>"),
        ThoughtMarks("command", "<|START_THINKING|>", "<|END_THINKING|>"),
        ThoughtMarks("openthinker", "<|begin_of_thought|>", "<|end_of_thought|>"),
    )
}


def starts_thinking(marks: ThoughtMarks, prompt_text: str) -> bool:
    """The prompt ends with an open thought: the template writes its beginning, and the model goes on."""
    return prompt_text.rstrip().endswith(marks.begin)


def is_thought_over(marks: ThoughtMarks, prompt_text: str) -> bool:
    """The prompt ends with a thought that is over: the template turns thinking off by an empty one."""
    return prompt_text.rstrip().endswith(marks.end)


def ends_thinking(marks: ThoughtMarks, continued_text: str) -> bool:
    """A message that is continued ends within a thought."""
    return continued_text.rfind(marks.begin) > continued_text.rfind(marks.end)
