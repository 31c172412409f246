"""The characters of an answer, as parsers read them: coroutines that are sent one at a time.

A parser is written as if it had the whole text, and how the text was cut cannot matter: it sees single characters,
each of them once, or twice where it looked ahead.
"""

from collections import deque
from collections.abc import Generator, Iterable

END = ""  # after the last character
Reading = Generator[None, str, "str"]


class Malformed(Exception):
    """What follows a call's beginning is no call of this format."""


class Chars:
    """What comes next, and what has come since `mark`."""

    def __init__(self) -> None:
        self._back: deque[str] = deque()
        self._since_mark: list[str] = []

    def next(self) -> Reading:
        """The next character, or END for ever."""
        char = self._back.popleft() if self._back else (yield)
        self._since_mark.append(char)
        return char

    def put_back(self, chars: Iterable[str]) -> None:
        """They come again, in this order."""
        given = list(chars)
        self._back.extendleft(reversed(given))
        del self._since_mark[len(self._since_mark) - len(given) :]

    def mark(self, before: str = "") -> None:
        """Remember from here on; before: what was read just before."""
        self._since_mark = [before]

    def fail(self) -> str:
        """What came since `mark`, but the last character, which comes again."""
        if len(self._since_mark) > 1:
            self.put_back(self._since_mark[-1:])
        return "".join(self._since_mark)

    def skip_space(self) -> Reading:
        """The first character that is no white space; it comes again."""
        while (char := (yield from self.next())).isspace():
            pass
        self.put_back([char])
        return char

    def take(self, literal: str) -> Generator[None, str, bool]:
        """Whether white space and the literal come next. They are read if so, and come again if not."""
        read: list[str] = []
        while True:
            char = yield from self.next()
            read.append(char)
            if not char.isspace():
                break
        place = len(read) - 1
        while (part := "".join(read[place:])) != literal:
            if char is END or not literal.startswith(part):
                self.put_back(read)
                return False
            char = yield from self.next()
            read.append(char)
        return True

    def expect(self, literal: str) -> Generator[None, str, None]:
        """Read white space and the literal. Raises Malformed for anything else."""
        if not (yield from self.take(literal)):
            raise Malformed
