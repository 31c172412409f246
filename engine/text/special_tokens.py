"""Finding the tokens that are matched as whole texts before any merging: control and user-defined ones."""

from collections.abc import Iterator, Mapping

from kernels.cpu._native import TokenFinder

WINDOW = 1 << 16  # characters searched before the caller gets what was found


class TokenMatcher:
    """Finds token texts in a text: leftmost first, of several at one place the longest.

    The search is native and gives the interpreter's lock away. Its cost is linear in the text times the length of
    token texts that share a beginning.
    """

    def __init__(self, ids: Mapping[str, int], space: str = " ") -> None:
        """ids: token text -> id. Empty texts are ignored: they would match everywhere. space: see `spelled`."""
        self._space = space
        self.ids = {self.spelled(text): token_id for text, token_id in ids.items() if text}
        self._finder = TokenFinder(list(self.ids), list(self.ids.values()))

    def spelled(self, text: str) -> str:
        """The text as the other methods need it: each space as the vocabulary writes it. Keeps its length."""
        return text.replace(" ", self._space)

    def starts(self, text: str) -> Iterator[int]:
        """Every place where some token text begins, overlapping ones too."""
        return (start for start, _, _ in self._spans(text, overlapping=True))

    def found(self, text: str) -> Iterator[tuple[int, str]]:
        """The tokens that begin at some place of the text, and their spelling there."""
        spans = self._spans(self.spelled(text), overlapping=True)
        return ((token_id, text[start:end]) for start, end, token_id in spans)

    def split(self, text: str) -> Iterator[str | int]:
        """The text as plain runs (never empty) and the ids of the tokens between them."""
        plain_start = 0
        for start, end, token_id in self._spans(text, overlapping=False):
            if start > plain_start:
                yield text[plain_start:start]
            yield token_id
            plain_start = end
        if plain_start < len(text):
            yield text[plain_start:]

    def _spans(self, text: str, overlapping: bool) -> Iterator[tuple[int, int, int]]:
        """(start, end, id), window by window: a token may reach into the next, which then begins after it."""
        start = 0
        while start < len(text):
            window_end = min(start + WINDOW, len(text))
            spans = self._finder.find(text, start, window_end, overlapping)
            yield from spans
            start = max(window_end, spans[-1][1]) if spans and not overlapping else window_end
