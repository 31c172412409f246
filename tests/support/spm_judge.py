"""SentencePiece's BPE: merge the adjacent pair whose joined text scores highest, leftmost first on ties.

The judge of the native merger (kernels/cpu/text/spm_merge.h).
"""

from heapq import heapify, heappop, heappush
from itertools import pairwise

from engine.text.spm import boundary_pattern, characters_before_space
from engine.text.token_kind import TokenKind
from engine.text.vocabulary import Vocabulary

Bigram = tuple[float, int, int, str]  # -score, index of the left symbol, of the right one, their joined text


class SpmJudge:
    """Text whose spaces are already SPACE -> token ids. Knows nothing of special tokens and prefixes."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        mergeable = (TokenKind.NORMAL, TokenKind.UNUSED)
        self._ids = {t: i for i, t in enumerate(vocabulary.texts) if t and vocabulary.kinds[i] in mergeable}
        self._scores = vocabulary.scores
        self._unused = {t for t, i in self._ids.items() if vocabulary.kinds[i] is TokenKind.UNUSED}
        self._byte_ids = vocabulary.byte_ids
        self._unk_id = vocabulary.unk_id
        self._boundary = boundary_pattern(characters_before_space(self._ids))

    def encode(self, text: str) -> list[int]:
        token_ids: list[int] = []
        cuts = [0, *(m.start() for m in self._boundary.finditer(text)), len(text)]
        for segment in (text[start:end] for start, end in pairwise(cuts)):
            token_ids += self._encode_segment(segment)
        return token_ids

    def _encode_segment(self, segment: str) -> tuple[int, ...]:
        symbols, halves = self._merge(segment)
        token_ids: list[int] = []
        for symbol in symbols:
            if symbol is not None:
                self._append_ids(symbol, halves, token_ids)
        return tuple(token_ids)

    def _merge(self, segment: str) -> tuple[list[str | None], dict[str, tuple[str, str]]]:
        """The symbols after all merges (None where one was merged away), and the halves of unused tokens."""
        symbols: list[str | None] = list(segment)
        after = list(range(1, len(symbols) + 1))  # index of the next symbol; len(symbols): none
        before = list(range(-1, len(symbols) - 1))
        halves: dict[str, tuple[str, str]] = {}
        heap = [b for i in range(len(symbols) - 1) if (b := self._bigram(symbols, i, i + 1))]
        heapify(heap)
        while heap:
            _, left, right, joined = heappop(heap)
            left_text, right_text = symbols[left], symbols[right]
            if left_text is None or right_text is None or left_text + right_text != joined:
                continue  # one of the two has been merged since
            if joined in self._unused:
                halves[joined] = (left_text, right_text)
            symbols[left], symbols[right] = joined, None
            following = after[left] = after[right]
            if following < len(symbols):
                before[following] = left
                if bigram := self._bigram(symbols, left, following):
                    heappush(heap, bigram)
            if before[left] >= 0 and (bigram := self._bigram(symbols, before[left], left)):
                heappush(heap, bigram)
        return symbols, halves

    def _bigram(self, symbols: list[str | None], left: int, right: int) -> Bigram | None:
        joined = symbols[left] + symbols[right]  # type: ignore[operator]  # neighbours are never None
        token_id = self._ids.get(joined)
        return None if token_id is None else (-self._scores[token_id], left, right, joined)

    def _append_ids(self, symbol: str, halves: dict[str, tuple[str, str]], token_ids: list[int]) -> None:
        """An unused token is a step towards others only: what remains of it is taken apart again."""
        pending = [symbol]
        while pending:
            text = pending.pop()
            if text in halves:
                pending += reversed(halves[text])
            elif text in self._ids:
                token_ids.append(self._ids[text])
            else:
                token_ids += self._fallback(text)

    def _fallback(self, text: str) -> list[int]:
        """A character that is no token: its bytes, or the unknown token for those that have none."""
        if not self._byte_ids and self._unk_id is not None:
            return [self._unk_id]
        ids = [self._byte_ids.get(byte, self._unk_id) for byte in text.encode("utf-8")]
        return [token_id for token_id in ids if token_id is not None]
