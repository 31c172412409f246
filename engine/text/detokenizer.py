"""Token ids to text, a few at a time: a character is given out when its last byte is there, never before."""

import codecs
from collections.abc import Iterable

from engine.text.tokenizer import Tokenizer


class Detokenizer:
    """The texts of all pushes and the flush, joined, are the bytes of all tokens decoded as a whole.

    Bytes that are no UTF-8 read U+FFFD, as bytes.decode("utf-8", "replace") has it. skip_leading_space drops
    the one space in front of the first text: for an answer that begins a text of its own. A continuation of
    a prompt keeps it.
    """

    def __init__(self, tokenizer: Tokenizer, skip_leading_space: bool = False) -> None:
        self._token_bytes = tokenizer.token_bytes
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._skip_space = skip_leading_space

    def push(self, token_ids: Iterable[int]) -> str:
        return self._started(self._decoder.decode(b"".join(map(self._token_bytes, token_ids))))

    def flush(self) -> str:
        """What is left of an unfinished character: U+FFFD, or nothing."""
        return self._started(self._decoder.decode(b"", final=True))

    def _started(self, text: str) -> str:
        if self._skip_space and text:
            self._skip_space = False
            return text.removeprefix(" ")
        return text
