"""Text comes out character by character, never in halves, and adds up to the whole."""

from hypothesis import given
from hypothesis import strategies as st

from engine.text.detokenizer import Detokenizer
from engine.text.tokenizer import load_tokenizer
from support.vocabularies import pieces_with, spm_metadata

TOKENIZER = load_tokenizer(spm_metadata(pieces_with()))
FIRST_BYTE = 3


def byte_ids(raw):
    return [FIRST_BYTE + byte for byte in raw]


token_ids = st.lists(st.integers(0, TOKENIZER.n_vocab - 1))
characters = st.text().map(lambda text: byte_ids(text.encode()))
almost = st.text().map(lambda text: byte_ids(text.encode()[1:-1]))  # cut characters at both ends


@given(st.one_of(token_ids, characters, almost), st.lists(st.integers(1, 5)))
def test_pushes_and_flush_add_up_to_the_whole(ids, cuts):
    whole = b"".join(map(TOKENIZER.token_bytes, ids)).decode("utf-8", "replace")
    detokenizer, texts, start = Detokenizer(TOKENIZER), [], 0
    for cut in [*cuts, len(ids)]:
        texts.append(detokenizer.push(ids[start : start + cut]))
        start += cut
    assert "".join(texts) + detokenizer.flush() == whole


def test_a_character_comes_with_its_last_byte():
    detokenizer = Detokenizer(TOKENIZER)
    assert [detokenizer.push([i]) for i in byte_ids("é😁".encode())] == ["", "é", "", "", "", "😁"]


def test_an_unfinished_character_ends_as_one_replacement():
    detokenizer = Detokenizer(TOKENIZER)
    assert detokenizer.push(byte_ids("😁".encode()[:3])) == ""
    assert detokenizer.flush() == "\ufffd"
    assert detokenizer.flush() == ""


def test_a_continuation_keeps_its_leading_space_and_an_answer_may_drop_one():
    ids = TOKENIZER.encode("the", add_special=False, parse_special=False)
    assert Detokenizer(TOKENIZER).push(ids) == " the"
    dropping = Detokenizer(TOKENIZER, skip_leading_space=True)
    assert [dropping.push([1]), dropping.push(ids), dropping.push(ids)] == ["", "the", " the"]
