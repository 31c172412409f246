"""Finding the tokens that are matched as whole texts before any merging: control and user-defined ones."""

import re
from collections.abc import Iterator, Mapping


class TokenMatcher:
    """Finds token texts in a text: leftmost first, of several at one place the longest.

    One pass: a character class finds where a token may begin, a dictionary per length decides. Cost is linear
    in the text times the number of distinct lengths that share a first character.
    """

    def __init__(self, ids: Mapping[str, int], space: str = " ") -> None:
        """ids: token text -> id. Empty texts are ignored: they would match everywhere. space: see `spelled`."""
        self._space = space
        self.ids = {self.spelled(text): token_id for text, token_id in ids.items() if text}
        lengths: dict[str, set[int]] = {}
        for text in self.ids:
            lengths.setdefault(text[0], set()).add(len(text))
        self._lengths = {first: sorted(of_first, reverse=True) for first, of_first in lengths.items()}
        firsts = "".join(map(re.escape, self._lengths))
        self._first = re.compile(f"[{firsts}]" if firsts else r"(?!)")

    def spelled(self, text: str) -> str:
        """The text as the other methods need it: each space as the vocabulary writes it. Keeps its length."""
        return text.replace(" ", self._space)

    def length_at(self, text: str, start: int) -> int:
        """The length of the longest token text that begins at start; 0 if none does."""
        for length in self._lengths.get(text[start], ()):
            if text[start : start + length] in self.ids:
                return length
        return 0

    def starts(self, text: str) -> Iterator[int]:
        """Every place where some token text begins, overlapping ones too."""
        return (m.start() for m in self._first.finditer(text) if self.length_at(text, m.start()))

    def found(self, text: str) -> Iterator[tuple[int, str]]:
        """The tokens that begin at some place of the text, and their spelling there."""
        spelled = self.spelled(text)
        for start in self.starts(spelled):
            end = start + self.length_at(spelled, start)
            yield self.ids[spelled[start:end]], text[start:end]

    def split(self, text: str) -> Iterator[str | int]:
        """The text as plain runs (never empty) and the ids of the tokens between them."""
        plain_start = 0
        for start in self.starts(text):
            if start < plain_start:  # inside the token found before
                continue
            if start > plain_start:
                yield text[plain_start:start]
            plain_start = start + self.length_at(text, start)
            yield self.ids[text[start:plain_start]]
        if plain_start < len(text):
            yield text[plain_start:]
