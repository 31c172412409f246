"""An answer taken apart as it comes: thoughts first, then content and calls."""

from collections.abc import Sequence

from engine.answers.calls.reading import CallFormat, CallParser
from engine.answers.parts import CallArguments, CallStart, Part, Text, Thought
from engine.answers.thoughts import ThoughtMarks
from engine.answers.tool import Tool
from engine.text.stop_strings import StopStrings


class AnswerReader:
    """The parts of all pushes and the flush, joined, are those of the whole text, however it was cut.

    starts_thinking: the prompt has opened a thought. Otherwise one that begins the answer is opened by its mark.
    White space around thoughts is layout. Linear in the text.
    """

    def __init__(
        self,
        thoughts: ThoughtMarks | None,
        calls: CallFormat | None,
        tools: Sequence[Tool] = (),
        *,
        starts_thinking: bool = False,
    ) -> None:
        self._parser: CallParser | None = calls.parser(tools) if calls is not None else None
        self._thoughts = _Thoughts(thoughts, starts_thinking) if thoughts is not None else None

    @property
    def is_thinking(self) -> bool:
        return self._thoughts is not None and self._thoughts.is_open

    def push(self, text: str) -> list[Part]:
        if self._thoughts is None:
            return self._content(text)
        thought, text = self._thoughts.push(text)
        parts: list[Part] = [Thought(thought)] if thought else []
        if self._thoughts.is_over:
            self._thoughts = None
            parts += self._content(text)
        return parts

    def flush(self) -> list[Part]:
        parts: list[Part] = []
        if self._thoughts is not None:
            thought, text = self._thoughts.flush()
            parts = [Thought(thought)] if thought else []
            parts += self._content(text)
            self._thoughts = None
        return parts + (_merged(self._parser.flush()) if self._parser is not None else [])

    def _content(self, text: str) -> list[Part]:
        if self._parser is not None:
            return _merged(self._parser.push(text))
        return [Text(text)] if text else []


class _Thoughts:
    """The beginning of an answer, until its thought is over or there is none."""

    def __init__(self, marks: ThoughtMarks, is_open: bool) -> None:
        self.is_open = is_open
        self.is_over = False
        self._begin = marks.begin
        self._end = StopStrings([marks.end])
        self._held = ""
        self._has_begun = False  # something of the thought has been given out
        self._closed = False

    def push(self, text: str) -> tuple[str, str]:
        """(thought, content)"""
        thoughts = []
        if not self.is_open and not self._closed:
            text = self._opened(text)
        if self.is_open:
            thought, text = self._until_end(text)
            thoughts.append(thought)
        if self._closed:
            text = text.lstrip()
            self.is_over = bool(text)
        return "".join(thoughts), text

    def flush(self) -> tuple[str, str]:
        """A thought that never ended, or white space that might have come before one."""
        if not self.is_open:
            return "", self._held
        rest = self._held + self._end.flush()
        return rest.rstrip() if self._has_begun else rest.strip(), ""

    def _opened(self, text: str) -> str:
        """What follows the mark that opens the thought; what there is of the answer where none does."""
        self._held += text
        start = self._held.lstrip()
        if len(start) < len(self._begin) and self._begin.startswith(start):
            return ""
        held, self._held = self._held, ""
        if start.startswith(self._begin):
            self.is_open = True
            return start[len(self._begin) :]
        self.is_over = True
        return held

    def _until_end(self, text: str) -> tuple[str, str]:
        """The thought, without white space at its ends, and what follows its end."""
        for place, char in enumerate(text):
            released, ended = self._end.push(char)
            self._held += released
            if ended:
                self.is_open, self._closed = False, True
                thought = self._held.rstrip()
                self._held = ""
                return (thought if self._has_begun else thought.lstrip()), text[place + 1 :]
        if not self._has_begun:
            self._held = self._held.lstrip()
        thought = self._held.rstrip()
        self._held = self._held[len(thought) :]
        self._has_begun |= bool(thought)
        return thought, ""


def _merged(parts: list[Part]) -> list[Part]:
    """Neighbours of one kind as one: a parser gives single characters."""
    merged: list[Part] = []
    texts: list[str] = []
    for part in parts:
        if merged and not isinstance(part, CallStart) and _same(merged[-1], part):
            texts.append(part.text)
            continue
        _close(merged, texts)
        merged.append(part)
        texts = [] if isinstance(part, CallStart) else [part.text]
    _close(merged, texts)
    return merged


def _same(before: Part, part: Part) -> bool:
    if isinstance(part, CallArguments):
        return isinstance(before, CallArguments) and before.index == part.index
    return type(before) is type(part)


def _close(merged: list[Part], texts: list[str]) -> None:
    if len(texts) > 1:
        last, text = merged[-1], "".join(texts)
        merged[-1] = CallArguments(last.index, text) if isinstance(last, CallArguments) else Text(text)
