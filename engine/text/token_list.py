"""A text's token ids as they come, piece by piece: counting stops where the context ends, or when the client leaves.

A text that cannot fit is known as such after as many tokens as the context holds, whatever its length; and no call
of an encoder works for long, so that its caller is asked often whether anybody still waits.
"""

import re
import threading
from collections.abc import Callable, Iterator

from engine.errors import ContextLengthError, RequestError

PIECE = 1 << 14  # characters encoded at once
LONG_PIECE = 1 << 16  # characters without a place to cut, of which a lower bound is worth having first
CUT_COSTS = 64  # tokens: a cut within a word changes the few around it


class TokenList:
    """The ids so far. Every method raises ContextLengthError when they reach `limit`, RequestError if cancelled."""

    def __init__(self, limit: int | None = None, cancelled: threading.Event | None = None) -> None:
        """limit: tokens of the context, which a prompt must leave room in; None for no limit."""
        self.ids: list[int] = []
        self._limit = limit
        self._cancelled = cancelled

    def append(self, token_id: int) -> None:
        self.ids.append(token_id)
        self._check(len(self.ids))

    def encode(self, text: str, encode: Callable[[str], list[int]], boundary: re.Pattern[str]) -> None:
        """Add a plain text's ids: those of the text encoded at once."""
        for piece in pieces(text, boundary):
            if self._limit is not None and len(piece) > LONG_PIECE:
                self._check_uncut(piece, encode)
            self._check(len(self.ids))
            self.ids += encode(piece)
        self._check(len(self.ids))

    def _check_uncut(self, piece: str, encode: Callable[[str], list[int]]) -> None:
        """Before a long piece is encoded whole: its parts have about as many tokens."""
        n_least = len(self.ids)
        for start in range(0, len(piece), PIECE):
            n_least += max(0, len(encode(piece[start : start + PIECE])) - CUT_COSTS)
            self._check(n_least)

    def _check(self, n_least: int) -> None:
        if self._cancelled is not None and self._cancelled.is_set():
            raise RequestError("the request was cancelled")
        if self._limit is not None and n_least >= self._limit:
            raise ContextLengthError(n_least, self._limit, at_least=True)


def pieces(text: str, boundary: re.Pattern[str]) -> Iterator[str]:
    """The text in pieces of PIECE characters and what it takes to the next place where an encoder may cut."""
    start = 0
    while start < len(text):
        end = _next_boundary(text, start + PIECE, boundary)
        yield text[start:end]
        start = end


def _next_boundary(text: str, start: int, boundary: re.Pattern[str]) -> int:
    """At start or after it. The search is long where there is none, and pauses for other threads."""
    for window in range(start, len(text), PIECE):
        if found := boundary.search(text, window, window + PIECE):
            return found.start()
    return len(text)
