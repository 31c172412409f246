"""Thoughts as guides see them: a budget that ends them, and a form that begins after them."""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from engine.answers.thoughts import ThoughtMarks
from engine.guides.guide import Guide
from engine.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class ThoughtTokens:
    """How one model writes the marks of its thoughts."""

    marks: ThoughtMarks
    begin_ids: tuple[int, ...]
    end_ids: tuple[int, ...]
    stop_ids: tuple[int, ...]  # that end an answer

    @classmethod
    def of(cls, tokenizer: Tokenizer, marks: ThoughtMarks) -> "ThoughtTokens":
        def ids(text: str) -> tuple[int, ...]:
            return tuple(tokenizer.encode(text, add_special=False, parse_special=True))

        return cls(marks, ids(marks.begin), ids(marks.end), tuple(tokenizer.eos_ids))


class ThoughtGuide:
    """Leaves thoughts free until their budget is used up, then writes their end. Then `inner` says what may come.

    starts_thinking: the prompt has opened a thought. may_think: the answer may open one. budget: tokens of thought;
    None: any number. An answer with an `inner` cannot end in its thoughts, and so never without its form.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        tokens: ThoughtTokens,
        *,
        starts_thinking: bool,
        may_think: bool = True,
        budget: int | None = None,
        inner: Guide | None = None,
    ) -> None:
        self._tokenizer, self._tokens = tokenizer, tokens
        self._budget, self._inner = budget, inner
        self._is_thinking = starts_thinking
        self._may_open = may_think and not starts_thinking
        self._n_thought = 0
        self._forced = self._end_if_due()  # what must come next, the last one first
        self._text = b""  # as much of it as could begin or end a mark

    @property
    def is_finished(self) -> bool:
        return not self._is_thinking and self._inner is not None and self._inner.is_finished

    def fill_mask(self, words: np.ndarray) -> bool:
        if self._forced:
            _allow_only(words, self._forced[-1:])
            return True
        if self._is_thinking:
            return self._inner is not None and _forbid(words, self._tokens.stop_ids)
        restricts = self._inner is not None and self._inner.fill_mask(words)
        if self._may_open:
            return self._with_opening(words, restricts)
        return restricts

    def _with_opening(self, words: np.ndarray, restricts: bool) -> bool:
        """The answer begins: a thought may begin beside what `inner` allows, or may not where there is no budget."""
        first = self._tokens.begin_ids[:1]
        if self._budget == 0:
            return restricts or _forbid(words, first)
        if restricts:
            _allow_too(words, first)
        return restricts

    def accept(self, token_id: int) -> None:
        if self._forced:
            self._forced.pop()
        elif self._may_open:
            self._opened(token_id)
            return
        if not self._is_thinking:
            if self._inner is not None:
                self._inner.accept(token_id)
            return
        self._n_thought += 1
        self._text += self._bytes_of(token_id)
        if self._tokens.marks.end.encode() in self._text:
            self._is_thinking, self._forced = False, []
            return
        self._text = self._text[-len(self._tokens.marks.end.encode()) :]
        if not self._forced:
            self._forced = self._end_if_due()

    def _opened(self, token_id: int) -> None:
        """The first tokens: a thought, or the content."""
        begin_ids = self._tokens.begin_ids
        if self._inner is not None:
            self._may_open = False
            if token_id != begin_ids[0]:
                self._inner.accept(token_id)
                return
            self._is_thinking = True
            self._forced = list(reversed(begin_ids[1:]))
            return
        self._text += self._bytes_of(token_id)
        text, begin = self._text.lstrip(), self._tokens.marks.begin.encode()
        if text.startswith(begin):
            self._may_open, self._is_thinking, self._text = False, True, text[len(begin) :]
        elif not begin.startswith(text):
            self._may_open = False

    def _end_if_due(self) -> list[int]:
        """The tokens that end a thought whose budget is used up, the last one first."""
        if not self._is_thinking or self._budget is None or self._n_thought < self._budget:
            return []
        return list(reversed(self._tokens.end_ids))

    def _bytes_of(self, token_id: int) -> bytes:
        return self._tokenizer.token_bytes(token_id) or self._tokenizer.piece(token_id).encode()


def _allow_only(words: np.ndarray, token_ids: Collection[int]) -> None:
    words[:] = 0
    _allow_too(words, token_ids)


def _allow_too(words: np.ndarray, token_ids: Collection[int]) -> None:
    bits = words.view(np.uint32)
    for token_id in token_ids:
        bits[token_id // 32] |= np.uint32(1 << token_id % 32)


def _forbid(words: np.ndarray, token_ids: Collection[int]) -> bool:
    bits = words.view(np.uint32)
    bits[:] = 0xFFFFFFFF
    for token_id in token_ids:
        bits[token_id // 32] &= ~np.uint32(1 << token_id % 32)
    return True
