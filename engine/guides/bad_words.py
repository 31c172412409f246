"""Sequences of tokens that may not come."""

from collections import deque
from collections.abc import Sequence

import numpy as np


class BadWords:
    """Forbids the token that would complete one of the sequences; what begins one is free."""

    is_finished = False

    def __init__(self, words: Sequence[Sequence[int]]) -> None:
        self._words = [tuple(word) for word in words]
        self._recent: deque[int] = deque(maxlen=max(map(len, self._words)) - 1)

    def fill_mask(self, words: np.ndarray) -> bool:
        recent = tuple(self._recent)
        ends = [word[-1] for word in self._words if recent[len(recent) - len(word) + 1 :] == word[:-1]]
        if not ends:
            return False
        bits = words.view(np.uint32)
        bits[:] = 0xFFFFFFFF
        for token_id in ends:
            bits[token_id // 32] &= ~np.uint32(1 << token_id % 32)
        return True

    def accept(self, token_id: int) -> None:
        self._recent.append(token_id)
