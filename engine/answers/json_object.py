"""A JSON object read one character at a time: valid so far or not, its members as they become whole."""

import json

from engine.answers.chars import END, Malformed

MAX_DEPTH = 64
_SPACE = frozenset(" \t\n\r")
_ESCAPED = frozenset('"\\/bfnrt')
_HEX = frozenset("0123456789abcdefABCDEF")
_CLOSES = {"{": "}", "[": "]"}


class JsonObject:
    """`members` has the texts of whole values by key, `open_value` the characters of the value that is being read."""

    def __init__(self) -> None:
        self.members: dict[str, str] = {}
        self.open_key: str | None = None
        self.open_value: list[str] = []
        self.is_whole = False
        self._stack: list[str] = []
        self._state = self._start
        self._word: list[str] = []  # of a string, or of a number or literal
        self._is_key = False
        self._n_hex = 0
        self._is_kept = False  # the character belongs to the value of a member
        self._ended_before = False  # a number or literal has ended, and the character is not of it

    def feed(self, char: str) -> None:
        """Raises Malformed where no JSON object begins so, and at END."""
        if char is END:
            raise Malformed
        was_kept, self._ended_before = self._is_kept, False
        self._state(char)
        if self._is_kept or (was_kept and not self._ended_before):
            self.open_value.append(char)

    # What may come next.

    def _start(self, char: str) -> None:
        if char in _SPACE:
            return
        if char != "{":
            raise Malformed
        self._open(char)

    def _open(self, char: str) -> None:
        self._stack.append(char)
        if len(self._stack) > MAX_DEPTH:
            raise Malformed
        self._state = self._first_key if char == "{" else self._first_value

    def _first_key(self, char: str) -> None:
        if char == "}":
            self._close(char)
        else:
            self._key(char)

    def _key(self, char: str) -> None:
        if char in _SPACE:
            return
        if char != '"':
            raise Malformed
        self._is_key = True
        self._word = [char]
        self._state = self._string

    def _colon(self, char: str) -> None:
        if char in _SPACE:
            return
        if char != ":":
            raise Malformed
        self._state = self._value
        if len(self._stack) == 1:
            self.open_key = json.loads("".join(self._word))
            self.open_value = []

    def _first_value(self, char: str) -> None:
        if char == "]":
            self._close(char)
        else:
            self._value(char)

    def _value(self, char: str) -> None:
        if char in _SPACE:
            return
        self._is_kept |= len(self._stack) == 1
        if char in "{[":
            self._open(char)
        elif char == '"':
            self._is_key = False
            self._word = [char]
            self._state = self._string
        elif char in "-0123456789tfn":
            self._word = [char]
            self._state = self._plain
        else:
            raise Malformed

    def _string(self, char: str) -> None:
        if char < " ":
            raise Malformed
        if self._is_key:
            self._word.append(char)
        if char == "\\":
            self._state = self._escape
        elif char == '"':
            self._state = self._colon if self._is_key else self._after
            self._end_value()

    def _escape(self, char: str) -> None:
        if self._is_key:
            self._word.append(char)
        if char == "u":
            self._n_hex = 0
            self._state = self._unicode
        elif char in _ESCAPED:
            self._state = self._string
        else:
            raise Malformed

    def _unicode(self, char: str) -> None:
        if char not in _HEX:
            raise Malformed
        if self._is_key:
            self._word.append(char)
        self._n_hex += 1
        if self._n_hex == 4:
            self._state = self._string

    def _plain(self, char: str) -> None:
        """A number or a literal: it is known to be whole when something else comes."""
        if char not in ",]} \t\n\r":
            self._word.append(char)
            if len(self._word) > 64:
                raise Malformed
            return
        try:
            json.loads("".join(self._word), parse_constant=_no_constant)
        except ValueError:
            raise Malformed from None
        self._state = self._after
        self._ended_before = len(self._stack) == 1
        self._end_value()
        self._after(char)

    def _after(self, char: str) -> None:
        """A value has ended."""
        if char in _SPACE:
            return
        if char == ",":
            self._state = self._key if self._stack[-1] == "{" else self._value
            self._end_member()
        elif char == _CLOSES[self._stack[-1]]:
            self._close(char)
        else:
            raise Malformed

    def _close(self, char: str) -> None:
        if len(self._stack) == 1:
            self._end_member()
            self.is_whole = True
        self._stack.pop()
        self._state = self._after
        self._end_value()

    def _end_value(self) -> None:
        self._is_kept &= len(self._stack) > 1

    def _end_member(self) -> None:
        if len(self._stack) == 1 and self.open_key is not None:
            self.members[self.open_key] = "".join(self.open_value)
            self.open_key = None


def _no_constant(name: str) -> float:
    raise ValueError(name)
