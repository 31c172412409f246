"""The tokenizer's native loops against their plain judges: SPM merging, and the search for token texts."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.text.special_tokens import WINDOW, TokenMatcher
from engine.text.tokenizer import load_tokenizer
from kernels.cpu._native import SpmMerger, TokenFinder
from support.interpreter_lock import share_of_longest_pause
from support.matcher_judge import spans
from support.spm_judge import SpmJudge
from support.vocabularies import (
    NORMAL,
    UNKNOWN,
    UNUSED,
    bpe_metadata,
    pieces_with,
    random_texts,
    shared_metadata,
    spm_metadata,
)

SHARED_SPM = (
    "vocab/ggml-vocab-llama-spm.gguf",
    "vocab/ggml-vocab-phi-3.gguf",
    "models/stories-wide256-F16.gguf",
)
SMALL = load_tokenizer(spm_metadata(pieces_with()))
SMALL_JUDGE = SpmJudge(SMALL.vocabulary)
ODD_TEXTS = [
    "",
    "\0",
    "a\0\0b",
    "▁",
    "▁▁▁▁",
    "😁" * 50,
    "é\u0301本\U0010ffff\ufffe",
    "a" * 3000,
    "\ufeff▁x",
    "ab▁" * 900,
]
N_TEXTS = pytest.mark.parametrize("n_texts", [150, pytest.param(20_000, marks=pytest.mark.slow)])
few_letters = st.text("ab<|▁é😁", max_size=4)


def native(tokenizer, text):
    return tokenizer._encoder.encode(text.replace(" ", "▁"))


@N_TEXTS
@pytest.mark.parametrize("name", SHARED_SPM)
def test_native_merging_gives_the_judges_ids_on_real_vocabularies(shared, name, n_texts):
    tokenizer = load_tokenizer(shared_metadata(shared / name))
    judge = SpmJudge(tokenizer.vocabulary)
    words = [text.replace("▁", " ") for text in tokenizer.vocabulary.texts[259:]]
    for text in [*ODD_TEXTS, *random_texts(n_texts, words, n_texts)]:
        assert native(tokenizer, text) == judge.encode(text.replace(" ", "▁")), ascii(text)


def random_vocabulary(rng):
    """Few characters and scores (many ties), unused tokens, spaces inside tokens; bytes, an unknown token or both."""
    texts = ["a", "é", "本", "▁"]
    while len(texts) < 14:
        joined = rng.choice(texts) + rng.choice(texts)
        if joined not in texts and len(joined) < 7:
            texts.append(joined)
    head = pieces_with()[:259] if rng.random() < 0.5 else [("<unk>", 0.0, UNKNOWN), *pieces_with()[1:3]]
    kinds = (UNUSED if len(text) > 1 and rng.random() < 0.3 else NORMAL for text in texts)
    return spm_metadata(
        [*head, *((t, float(-rng.randrange(3)), k) for t, k in zip(texts, kinds, strict=True))]
    )


@pytest.mark.parametrize("n_vocabularies", [40, pytest.param(3000, marks=pytest.mark.slow)])
def test_native_merging_gives_the_judges_ids_on_vocabularies_full_of_ties(n_vocabularies):
    rng = random.Random(n_vocabularies)
    for _ in range(n_vocabularies):
        tokenizer = load_tokenizer(random_vocabulary(rng))
        judge = SpmJudge(tokenizer.vocabulary)
        for _ in range(25):
            text = "".join(rng.choices("aé本▁b😁", k=rng.randrange(40)))
            assert tokenizer._encoder.encode(text) == judge.encode(text), (text, tokenizer.vocabulary.texts)


@given(st.text())
def test_native_merging_gives_the_judges_ids_on_any_text(text):
    assert SMALL._encoder.encode(text) == SMALL_JUDGE.encode(text)


@given(st.dictionaries(few_letters, st.integers(0, 9), max_size=8), st.text("ab<|▁é😁"), st.booleans())
def test_token_texts_are_found_as_the_judge_finds_them(ids, text, overlapping):
    matcher = TokenMatcher(ids, "▁")
    assert list(matcher._spans(text, overlapping)) == list(spans(ids, text, overlapping))
    distinct = TokenMatcher({t: i for i, t in enumerate(ids)})
    spelling = dict(enumerate(ids))
    assert "".join(p if isinstance(p, str) else spelling[p] for p in distinct.split(text)) == text


@pytest.mark.parametrize("before", [WINDOW - 3, WINDOW - 2, WINDOW - 1, WINDOW])
def test_a_token_across_two_windows_is_found_once(before):
    matcher = TokenMatcher({"<ab>": 7, "b>": 8})
    text = "x" * before + "<ab>" + "y"
    assert list(matcher.split(text)) == ["x" * before, 7, "y"]
    assert list(matcher.starts(text)) == [before, before + 2]


def test_what_the_native_side_cannot_take_is_refused():
    finder = TokenFinder(["a"], [0])
    for start, end in ((-1, 1), (2, 1), (0, 4)):
        with pytest.raises(ValueError, match="inside the text"):
            finder.find("abc", start, end, False)
    with pytest.raises(ValueError, match="one length"):
        TokenFinder(["a"], [0, 1])
    with pytest.raises(ValueError, match="256 entries"):
        SpmMerger(["a"], [0], [0.0], [False], [-1] * 255, -1, [])
    with pytest.raises(UnicodeEncodeError):
        SMALL._encoder.encode("a\ud800")


@pytest.mark.parametrize("tokenizer", [SMALL, load_tokenizer(bpe_metadata())], ids=["spm", "bpe"])
def test_other_threads_run_while_a_text_is_encoded(tokenizer):
    """Half a million letters without a place to cut: one call of the encoder."""
    assert share_of_longest_pause(lambda: tokenizer._encoder.encode("the" * 200_000)) < 0.6


def test_other_threads_run_while_special_tokens_are_searched():
    matcher = TokenMatcher({"<|ab": 0, "<<<|a": 1})
    assert share_of_longest_pause(lambda: matcher._finder.find("<" * 8_000_000, 0, 8_000_000, True)) < 0.6
