"""Where a parser of calls puts what it has read: content, and calls, which are held back until they are certain."""

from engine.answers.parts import CallArguments, CallStart, Part, Text

HELD_ARGUMENTS = 256  # characters of valid arguments after which a call that is not whole yet is given out


class Output:
    """The parts so far. White space after content waits for what comes: before a call it is layout, and dropped."""

    def __init__(self) -> None:
        self.n_calls = 0
        self.has_open_call = False  # one has been given out that is not whole
        self._parts: list[Part] = []
        self._space = ""

    def text(self, text: str) -> None:
        text = self._space + text
        kept = text.rstrip()
        self._space = text[len(kept) :]
        if kept:
            self._parts.append(Text(kept))

    def start(self, name: str) -> int:
        """A call begins; its place among the calls."""
        self._space = ""
        self._parts.append(CallStart(self.n_calls, name))
        self.n_calls += 1
        return self.n_calls - 1

    def arguments(self, index: int, text: str) -> None:
        if text:
            self._parts.append(CallArguments(index, text))

    def drop_open_call(self) -> bool:
        """Whether there was one: what has been given out of it stays, as nobody can take it back."""
        was_open, self.has_open_call = self.has_open_call, False
        return was_open

    def end(self) -> None:
        """The answer has ended. White space after calls is layout; after content alone the model meant it."""
        if self._space and not self.n_calls:
            self._parts.append(Text(self._space))
        self._space = ""

    def take(self) -> list[Part]:
        parts, self._parts = self._parts, []
        return parts


class Draft:
    """One call. Its arguments are given out once they are whole, or many and valid so far."""

    def __init__(self, output: Output, name: str) -> None:
        self._output, self._name = output, name
        self._index: int | None = None
        self._held: list[str] = []
        self._n_held = 0

    def add(self, text: str) -> None:
        if self._index is not None:
            self._output.arguments(self._index, text)
            return
        self._held.append(text)
        self._n_held += len(text)
        if self._n_held >= HELD_ARGUMENTS:
            self._give_out()
            self._output.has_open_call = True

    def finish(self) -> None:
        """It is whole."""
        if self._index is None:
            self._give_out()
        self._output.has_open_call = False

    def _give_out(self) -> None:
        self._index = self._output.start(self._name)
        self._output.arguments(self._index, "".join(self._held))
        self._held = []
