"""Which tokens an answer's text was made from: each is told when its text is."""

from collections import deque
from collections.abc import Callable, Sequence
from itertools import zip_longest

from engine import TokenLogprobs
from engine.text.tokenizer import Tokenizer
from server.generations.pieces import TokenText


class TokenTexts:
    """The tokens of one answer, held back as long as stop strings hold back their text.

    skip_leading_space: the text leaves out the space of its first token.
    """

    def __init__(self, tokenizer: Tokenizer, *, skip_leading_space: bool, offset: int = 0) -> None:
        """offset: characters of the text before the first token."""
        self._bytes_of: Callable[[int], bytes] = tokenizer.token_bytes
        self._skips_space = skip_leading_space
        self._offset = offset
        self._n_produced = self._n_released = 0
        self._held: deque[tuple[TokenText, int]] = deque()  # and the character it ends before

    def add(
        self, token_ids: Sequence[int], produced: Sequence[int], logprobs: Sequence[TokenLogprobs]
    ) -> None:
        """produced: characters that each token added to the text. logprobs: of each, or none at all."""
        pairs = zip(token_ids, produced, strict=True)
        for (token_id, n_characters), logprob in zip_longest(pairs, logprobs[: len(token_ids)]):
            token = TokenText(token_id, self._data(token_id), self._offset + self._n_produced, logprob)
            self._n_produced += n_characters
            self._held.append((token, self._n_produced))

    def release(self, n_characters: int) -> tuple[TokenText, ...]:
        """So many more characters have been given out: the tokens that are now whole."""
        self._n_released += n_characters
        released = []
        while self._held and self._held[0][1] <= self._n_released:
            released.append(self._held.popleft()[0])
        return tuple(released)

    def release_begun(self) -> tuple[TokenText, ...]:
        """The answer has ended in a stop string: those of which at least a part was given out."""
        end = self._offset + self._n_released
        return tuple(token for token, _ in self._held if token.offset < end)

    def release_all(self) -> tuple[TokenText, ...]:
        """The answer has ended, and its text has been given out."""
        return tuple(token for token, _ in self._held)

    def _data(self, token_id: int) -> bytes:
        data = self._bytes_of(token_id)
        if self._skips_space and data:
            self._skips_space = False
            return data.removeprefix(b" ")
        return data
