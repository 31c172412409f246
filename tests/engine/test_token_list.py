"""Counting tokens only as far as the context reaches, in pieces whose ids are the text's."""

import random
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import ContextLengthError, RequestError
from engine.text import token_list
from engine.text.pre_tokenizers import PRE_TOKENIZERS
from engine.text.token_list import TokenList, pieces
from engine.text.tokenizer import load_tokenizer
from support.vocabularies import bpe_metadata, pieces_with, random_texts, shared_metadata, spm_metadata

SPM = load_tokenizer(spm_metadata(pieces_with()))
BPE = load_tokenizer(bpe_metadata())
BOTH = pytest.mark.parametrize("tokenizer", [SPM, BPE], ids=["spm", "bpe"])
LONG = {
    "letters": "qz" * 300_000,
    "words": "the in " * 90_000,
    "spaces": " " * 3_000_000,
    "signs": "<" * 500_000,
}


def encode(tokenizer, text, **keys):
    return tokenizer.encode(text, add_special=True, parse_special=True, **keys)


@given(st.text("ab é本\n.9'ſ", max_size=60), st.integers(1, 5))
def test_pieces_are_the_text(text, size):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(token_list, "PIECE", size)
        for tokenizer in (SPM, BPE):
            boundary = tokenizer._encoder.boundary
            parts = list(pieces(text, boundary))
            assert "".join(parts) == text
            assert all(len(part) >= size for part in parts[:-1])
            assert all(boundary.match(text, end) for end in ends(parts)[:-1])


def ends(parts):
    return [sum(map(len, parts[: i + 1])) for i in range(len(parts))]


@pytest.mark.parametrize(
    "pre", sorted({family.splits: name for name, family in PRE_TOKENIZERS.items()}.values())
)
def test_every_family_gives_a_text_in_pieces_the_ids_of_the_whole(monkeypatch, pre):
    tokenizer = load_tokenizer(bpe_metadata(pre=pre, add_bos_token=False))
    rng = random.Random(pre)
    texts = [
        "".join(rng.choices("aBé本文 \t\n\u3000.,'s9٣ſא\u0301😁", k=rng.randrange(60))) for _ in range(300)
    ]
    assert_pieces_change_nothing(monkeypatch, tokenizer, texts)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["llama-spm", "phi-3", "llama-bpe", "qwen2", "deepseek-llm", "falcon", "starcoder"]
)
def test_real_vocabularies_give_a_text_in_pieces_the_ids_of_the_whole(monkeypatch, shared, name):
    tokenizer = load_tokenizer(shared_metadata(shared / f"vocab/ggml-vocab-{name}.gguf"))
    words = [tokenizer.token_bytes(i).decode("utf-8", "ignore") for i in range(tokenizer.n_vocab)]
    assert_pieces_change_nothing(monkeypatch, tokenizer, list(random_texts(5000, words, 5000)))


def assert_pieces_change_nothing(monkeypatch, tokenizer, texts):
    whole = [encode(tokenizer, text) for text in texts]
    monkeypatch.setattr(token_list, "PIECE", 3)
    for text, ids in zip(texts, whole, strict=True):
        assert encode(tokenizer, text) == ids, ascii(text)


@BOTH
@pytest.mark.parametrize("kind", LONG)
def test_counting_stops_soon_after_the_limit(monkeypatch, tokenizer, kind):
    """However long the text: of a million characters only those are encoded that 100 tokens can hold, and a piece."""
    encoded = []
    original = tokenizer._encoder.encode
    monkeypatch.setattr(
        tokenizer._encoder, "encode", lambda text: encoded.append(len(text)) or original(text)
    )
    with pytest.raises(ContextLengthError, match="at least") as refused:
        encode(tokenizer, LONG[kind], limit=100)
    assert refused.value.n_prompt_tokens >= 100
    assert sum(encoded) < 4 * token_list.PIECE


@BOTH
def test_a_limit_refuses_exactly_the_texts_that_leave_no_room(tokenizer):
    for text in ("the in " * 40, "<s>" * 30, "q" * 50, ""):
        ids = encode(tokenizer, text)
        assert encode(tokenizer, text, limit=len(ids) + 1) == ids
        if len(ids) > 1:
            with pytest.raises(ContextLengthError):
                encode(tokenizer, text, limit=len(ids) - 1)


@BOTH
@pytest.mark.parametrize("kind", LONG)
def test_a_long_text_that_fits_has_its_own_ids(tokenizer, kind):
    """Also one without a place to cut, whose length is estimated first."""
    text = LONG[kind][:200_000]
    ids = encode(tokenizer, text)
    assert encode(tokenizer, text, limit=len(ids) + 1) == ids
    assert tokenizer.decode(ids) == text


@BOTH
def test_a_cancelled_text_is_not_encoded_on(monkeypatch, tokenizer):
    cancelled = threading.Event()
    original, n_calls = tokenizer._encoder.encode, []

    def encode_and_cancel(text):
        n_calls.append(1)
        if len(n_calls) == 3:
            cancelled.set()
        return original(text)

    monkeypatch.setattr(tokenizer._encoder, "encode", encode_and_cancel)
    with pytest.raises(RequestError, match="cancelled"):
        encode(tokenizer, LONG["words"], cancelled=cancelled)
    assert len(n_calls) == 3


def test_special_tokens_count_towards_the_limit():
    tokens = TokenList(limit=3)
    tokens.append(1)
    tokens.append(1)
    with pytest.raises(ContextLengthError):
        tokens.append(1)
