"""Budgets of thought, and forms that begin after it: answers drawn at random from what the guides leave."""

import random

import numpy as np
import pytest

from engine.answers.thoughts import THOUGHT_FORMATS
from engine.guides.guide import Guide
from engine.guides.thoughts import ThoughtGuide, ThoughtTokens
from engine.text.tokenizer import Tokenizer, load_tokenizer
from support.guided_text import allowed_ids
from support.vocabularies import CONTROL, USER_DEFINED, bpe_metadata

MARKS = THOUGHT_FORMATS["think"]
END = ("<|im_end|>", CONTROL)


def tokenizer_with(*more: tuple[str, int]) -> Tokenizer:
    return load_tokenizer(bpe_metadata(more=[*more, END]))


#: The marks as tokens, and spelled by several.
WHOLE = tokenizer_with(("<think>", USER_DEFINED), ("</think>", USER_DEFINED))
SPELLED = tokenizer_with()
TOKENIZERS = pytest.mark.parametrize("tokenizer", [WHOLE, SPELLED], ids=["tokens", "spelled"])


class Digits:
    """A form: three digits."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.seen: list[int] = []
        self._ids = [tokenizer.encode(d, add_special=False, parse_special=False)[0] for d in "0123456789"]

    def fill_mask(self, words: np.ndarray) -> bool:
        words[:] = 0
        for token_id in self._ids:
            words[token_id // 32] |= 1 << token_id % 32
        return True

    def accept(self, token_id: int) -> None:
        assert token_id in self._ids
        self.seen.append(token_id)

    @property
    def is_finished(self) -> bool:
        return len(self.seen) == 3


def guide(
    tokenizer: Tokenizer, *, starts: bool, budget: int | None = None, inner: Guide | None = None
) -> ThoughtGuide:
    tokens = ThoughtTokens.of(tokenizer, MARKS)
    return ThoughtGuide(tokenizer, tokens, starts_thinking=starts, budget=budget, inner=inner)


def drawn(tokenizer: Tokenizer, one: Guide, seed: int, first: str = "", n: int = 60) -> str:
    """Tokens at random from those allowed, after those of `first`."""
    rng = random.Random(seed)
    given = tokenizer.encode(first, add_special=False, parse_special=True)
    said: list[int] = []
    while len(said) < n and not one.is_finished:
        allowed = allowed_ids(one, tokenizer.n_vocab)
        assert allowed
        token_id = given[len(said)] if len(said) < len(given) else rng.choice(allowed)
        assert token_id in allowed
        if token_id in tokenizer.eos_ids:
            break
        one.accept(token_id)
        said.append(token_id)
    return b"".join(map(tokenizer.token_bytes, said)).decode("utf-8", "replace")


@TOKENIZERS
@pytest.mark.parametrize("budget", [0, 1, 7])
def test_a_thought_ends_after_its_budget(tokenizer: Tokenizer, budget: int) -> None:
    for seed in range(20):
        one = guide(tokenizer, starts=True, budget=budget, inner=Digits(tokenizer))
        thought, mark, content = drawn(tokenizer, one, seed).partition(MARKS.end)
        assert mark
        assert (
            len(tokenizer.encode(thought, add_special=False, parse_special=False)) <= budget
            or "\ufffd" in thought
        )
        assert len(content) == 3
        assert content.isdigit()


@TOKENIZERS
def test_a_thought_of_the_models_own_counts_too(tokenizer: Tokenizer) -> None:
    one = guide(tokenizer, starts=False, budget=4)
    text = drawn(tokenizer, one, 1, first="<think>", n=30)
    assert MARKS.end in text


@TOKENIZERS
def test_a_form_begins_at_once_or_after_a_thought(tokenizer: Tokenizer) -> None:
    kinds = set()
    for seed in range(60):
        one = guide(tokenizer, starts=False, budget=3, inner=Digits(tokenizer))
        text = drawn(tokenizer, one, seed)
        kinds.add(text.startswith(MARKS.begin))
        content = text.partition(MARKS.end)[2] if text.startswith(MARKS.begin) else text
        assert (len(content), content.isdigit()) == (3, True), text
    assert kinds == {True, False}


@TOKENIZERS
def test_an_answer_with_a_form_cannot_end_in_its_thought(tokenizer: Tokenizer) -> None:
    one = guide(tokenizer, starts=True, inner=Digits(tokenizer))
    for _ in range(5):
        allowed = allowed_ids(one, tokenizer.n_vocab)
        assert not set(allowed) & tokenizer.eos_ids
        one.accept(allowed[0])


@TOKENIZERS
def test_without_a_budget_or_a_form_everything_is_allowed(tokenizer: Tokenizer) -> None:
    one = guide(tokenizer, starts=True)
    words = np.zeros(-(-tokenizer.n_vocab // 32), np.int32)
    assert not one.fill_mask(words)
    assert not one.is_finished


def test_where_no_thought_is_left_none_begins() -> None:
    one = guide(WHOLE, starts=False, budget=0)
    [begin] = WHOLE.encode(MARKS.begin, add_special=False, parse_special=True)
    assert begin not in allowed_ids(one, WHOLE.n_vocab)
