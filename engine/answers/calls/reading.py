"""What the formats' parsers have in common: content up to a marker, and what went wrong as content."""

import re
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

from engine.answers.chars import END, Chars, Malformed
from engine.answers.output import Output
from engine.answers.parts import Part
from engine.answers.tool import Tool
from engine.text.stop_strings import StopStrings

MAX_NAME = 256
NAME = re.compile(r"[A-Za-z0-9_.:/-]{1,128}")

Steps = Generator[None, str, None]


class CallReader:
    """What a format's coroutine works with."""

    def __init__(self, tools: Sequence[Tool]) -> None:
        self.tools = tools
        self.chars = Chars()
        self.output = Output()

    def content_until(self, markers: Sequence[str]) -> Generator[None, str, str]:
        """Give out content as long as no marker begins in it. The marker, or END."""
        finder = StopStrings(markers)
        while (char := (yield from self.chars.next())) is not END:
            text, found = finder.push(char)
            self.output.text(text)
            if found:
                assert finder.found is not None
                return finder.found
        self.output.text(finder.flush())
        return END

    def text_until(self, markers: Sequence[str], most: int) -> Generator[None, str, tuple[str, str]]:
        """The text before a marker, and the marker. Raises Malformed for more than `most` characters, or an end."""
        finder = StopStrings(markers)
        read: list[str] = []
        for _ in range(most):
            char = yield from self.chars.next()
            if char is END:
                raise Malformed
            text, found = finder.push(char)
            read.append(text)
            if found:
                assert finder.found is not None
                return "".join(read), finder.found
        raise Malformed

    def name_until(self, markers: Sequence[str]) -> Generator[None, str, tuple[str, str]]:
        """A tool's name before a marker, and the marker."""
        text, marker = yield from self.text_until(markers, MAX_NAME)
        name = text.strip()
        if not NAME.fullmatch(name):
            raise Malformed
        return name, marker

    def attempt(self, steps: Steps, before: str = "") -> Generator[None, str, bool]:
        """Read a call that the marker `before` began. One that is malformed is content, as the model wrote it, up to
        the character that made it so."""
        self.chars.mark(before)
        try:
            yield from steps
        except Malformed:
            text = self.chars.fail()
            if not self.output.drop_open_call():
                self.output.text(text)
            return False
        return True


class CallParser:
    """A format's coroutine, driven by pushes. Nothing it gives depends on how the text was cut."""

    def __init__(self, read: Callable[[CallReader], Steps], tools: Sequence[Tool]) -> None:
        self._reader = CallReader(tools)
        self._steps = read(self._reader)
        next(self._steps)

    def push(self, text: str) -> list[Part]:
        for char in text:
            self._steps.send(char)
        return self._reader.output.take()

    def flush(self) -> list[Part]:
        try:
            while True:
                self._steps.send(END)
        except StopIteration:
            self._reader.output.end()
            return self._reader.output.take()


@dataclass(frozen=True)
class CallFormat:
    """One way in which models write calls. read: its coroutine. shown: texts that may be control tokens, which the
    parser must see."""

    name: str
    read: Callable[[CallReader], Steps]
    shown: tuple[str, ...]

    def parser(self, tools: Sequence[Tool]) -> CallParser:
        return CallParser(self.read, tools)
