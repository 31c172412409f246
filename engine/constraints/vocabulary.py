"""A model's tokens as llguidance wants them: the bytes that each one adds to the text that a client reads.

A token that adds nothing there (control and unknown tokens) or that only a template may write (markers) is special:
no form allows it, but for the ends of an answer and where a grammar names it by its text (`<|tool_call|>`).
"""

from collections.abc import Collection
from typing import NamedTuple

import numpy as np
from llguidance import LLTokenizer, TokenizerWrapper

from engine.text.token_kind import SPECIAL_KINDS, TokenKind
from engine.text.tokenizer import Tokenizer


class LeadingSpace(NamedTuple):
    """Tokens that begin with a space, for answers whose first space is not shown (`Tokenizer.adds_space_after`)."""

    spaced: np.ndarray  # bool [n_tokens]
    ids: np.ndarray  # those whose rest is a token too
    rest_ids: np.ndarray  # that token, for each of ids
    alone: np.ndarray  # the tokens that are one space and nothing else

    def rest_of(self, token_id: int) -> int | None:
        """The token that says the same without the space; None where that is nothing."""
        found = np.flatnonzero(self.ids == token_id)
        return int(self.rest_ids[found[0]]) if len(found) else None


class _Table:
    """The attributes that llguidance's wrapper reads. It never encodes: forms leave the tokens to the model."""

    def __init__(self, tokenizer: Tokenizer, end_ids: Collection[int]) -> None:
        kinds, texts = tokenizer.vocabulary.kinds, tokenizer.vocabulary.texts
        self.tokens = [tokenizer.token_bytes(i) for i in range(tokenizer.n_vocab)]
        special = {
            i
            for i, kind in enumerate(kinds)
            if kind in SPECIAL_KINDS or kind is TokenKind.UNKNOWN or not self.tokens[i] or i in end_ids
        }
        for token_id in special:
            self.tokens[token_id] = texts[token_id].encode("utf-8")
        self.special_token_ids = sorted(special)
        self.eos_token_id = min(end_ids)
        self.bos_token_id = tokenizer.bos_id

    def __call__(self, text: bytes) -> list[int]:
        raise NotImplementedError("forms are compiled with no_forcing: nothing is encoded")


def guided_vocabulary(tokenizer: Tokenizer, end_ids: Collection[int]) -> LLTokenizer:
    """llguidance's view of the vocabulary. Holds the interpreter's lock, 0.8 s for 128 000 tokens."""
    table = _Table(tokenizer, end_ids)
    return LLTokenizer(TokenizerWrapper(table), n_vocab=tokenizer.n_vocab, eos_token=sorted(end_ids))


def leading_space(tokenizer: Tokenizer) -> LeadingSpace:
    kinds = tokenizer.vocabulary.kinds
    texts = [b"" if kinds[i] in SPECIAL_KINDS else tokenizer.token_bytes(i) for i in range(tokenizer.n_vocab)]
    by_bytes = {text: i for i, text in enumerate(texts) if text}
    spaced = [i for i, text in enumerate(texts) if text.startswith(b" ")]
    pairs = [(i, by_bytes[texts[i][1:]]) for i in spaced if texts[i][1:] in by_bytes]
    flags = np.zeros(tokenizer.n_vocab, bool)
    flags[spaced] = True
    return LeadingSpace(
        flags,
        np.array([i for i, _ in pairs], np.int64),
        np.array([rest for _, rest in pairs], np.int64),
        np.array([i for i in spaced if texts[i] == b" "], np.int64),
    )
