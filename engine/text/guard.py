"""User text never becomes a special token, whatever a template does with it.

Before rendering, a mark (a character that occurs nowhere in the inputs) is put into every text of a user's
that a control token could be read in: within each one spelled out, and at an end that could complete one
together with what a template writes beside it. The search for control tokens then cannot match there, and the
tokenizer drops the marks from plain text. All other texts reach the template untouched, so its tests and
splits see what the user wrote.
"""

import json
import re
from collections.abc import Iterable, Iterator
from itertools import chain, pairwise
from typing import Any

from engine.errors import RequestError
from engine.text.messages import ROLES
from engine.text.special_tokens import TokenMatcher

# Words of the protocol, not of a user: templates compare them, and build <|user|> out of them.
PLAIN_WORDS = ROLES | {"function", "text"}
MARKS = (range(0xFDD0, 0xFDF0), range(0xF0000, 0xFFFFE), range(0x100000, 0x10FFFE))  # no text needs these
SLICE = 1 << 16  # characters looked at without a break for other threads


class ControlTexts:
    """What the guard of every rendering shares: the control tokens' texts and their beginnings and ends."""

    def __init__(self, control: TokenMatcher) -> None:
        self.matcher = control
        self.texts = list(control.ids)
        self.longest = max(map(len, self.texts), default=0)
        self.beginnings = {text[:n] for text in self.texts for n in range(1, len(text))}
        self.ends = {text[n:] for text in self.texts for n in range(1, len(text))}

    def count(self, text: str) -> int:
        return sum(1 for _ in self.matcher.starts(self.matcher.spelled(text)))


class Guard:
    """One rendering's marks."""

    def __init__(self, control: ControlTexts, mark: str) -> None:
        self.mark = mark
        self._control = control

    def guarded(self, value: Any) -> Any:
        """A copy of a user's value (strings, lists, dicts) with marks where they are needed."""
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, list | tuple):
            return [self.guarded(item) for item in value]
        if isinstance(value, dict):
            return {self._broken(k): v if _is_plain(k, v) else self.guarded(v) for k, v in value.items()}
        return value

    def cut(self, value: Any) -> Any:
        """Pieces of strings: their new ends could meet and complete a control token."""
        if isinstance(value, str):
            return self._ends(value)
        if isinstance(value, list | tuple):
            return type(value)(self._ends(v) if isinstance(v, str) else v for v in value)
        return value

    def replaced(self, text: str, old: str, new: str, result: str) -> str:
        """The result of text.replace(old, new), marked if a control token has come about."""
        count = self._control.count
        if count(result) > count(text) + text.count(old) * count(new):
            return self._broken(result)
        return result

    def unescaped(self, text: str) -> str:
        """A JSON text in ASCII, in which the marks were escaped like any other character, with marks again."""
        escaped = re.escape(json.dumps(self.mark)[1:-1])
        return re.sub(rf"((?<!\\)(?:\\\\)*){escaped}", rf"\g<1>{self.mark}", text)

    def _text(self, text: str) -> str:
        marked = self._ends(self._broken(text))
        inside = 0 < len(text) < self._control.longest and marked == text
        spelled = self._control.matcher.spelled(text)
        return text + self.mark if inside and any(spelled in t for t in self._control.texts) else marked

    def _broken(self, text: Any) -> Any:
        """Every control token spelled out, also overlapping ones, is broken after its first character."""
        if not isinstance(text, str):  # a dict's key
            return text
        starts = list(self._control.matcher.starts(self._control.matcher.spelled(text)))
        if not starts:
            return text
        cuts = [0, *(start + 1 for start in starts), len(text)]
        return self.mark.join(text[start:end] for start, end in pairwise(cuts))

    def _ends(self, text: str) -> str:
        """Marks where the text's start could complete a control token and where its end could begin one."""
        front = self._front(text, self._control.ends, 1)
        back = self._front(text[::-1], self._control.beginnings, -1)
        if back is not None:
            text = text[: len(text) - back] + self.mark + text[len(text) - back :]
        return text if front is None else text[:front] + self.mark + text[front:]

    def _front(self, text: str, halves: set[str], direction: int) -> int | None:
        """Where to mark: after the leading spaces if that suffices, as templates trim them. None: nowhere."""
        head = self._control.matcher.spelled(text[: self._control.longest])
        sizes = [n for n in range(1, len(head) + 1) if head[:n][::direction] in halves]
        if not sizes:
            return None
        n_spaces = len(text) - len(text.lstrip())
        return n_spaces if sizes[0] > n_spaces else 0


def _is_plain(key: Any, value: Any) -> bool:
    return key in ("role", "type") and isinstance(value, str) and value in PLAIN_WORDS


def unused_mark(*values: Any) -> str:
    """A character that occurs in none of the values. Raises RequestError if they hold every candidate."""
    texts = list(_texts(values))
    for mark in map(chr, MARKS[0]):
        if not any(mark in text for text in texts):
            return mark
    used: set[str] = set()
    for text in texts:
        for start in range(0, len(text), SLICE):
            used.update(text[start : start + SLICE])
    for code in chain(*MARKS):
        if chr(code) not in used:
            return chr(code)
    raise RequestError("the messages use every character of Unicode's private planes", param="messages")


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from _texts(list(value))
        yield from _texts(list(value.values()))
    elif isinstance(value, Iterable):
        for item in value:
            yield from _texts(item)
