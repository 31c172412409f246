"""The BPE tokenizer on small vocabularies: special tokens, prefixes, families, and files that are wrong."""

import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from engine.errors import ModelFileError, RequestError
from engine.text.bpe import ALPHABET
from engine.text.detokenizer import Detokenizer
from engine.text.pre_tokenizers import PRE_TOKENIZERS
from engine.text.tokenizer import load_tokenizer
from support.vocabularies import CONTROL, NORMAL, UNUSED, USER_DEFINED, bpe_metadata

SMALL = load_tokenizer(bpe_metadata())
TEXT_PARTS = [
    "the",
    " the",
    "<|im_start|>",
    "<|im_",
    "start|>",
    "é",
    "本",
    "👩‍👩‍👧",
    "e\u0301",
    "\n",
    "  ",
    "12345",
    "'ll",
    "\0",
]
texts = st.one_of(st.text(), st.lists(st.sampled_from(TEXT_PARTS)).map("".join))


def plain(tokenizer, text):
    return tokenizer.encode(text, add_special=False, parse_special=False)


def pieces_of(tokenizer, ids):
    return [tokenizer.piece(i) for i in ids]


@given(texts, st.lists(st.integers(1, 4)))
@example("👩‍👩‍👧", [1, 1, 1, 1, 1])
def test_texts_come_back_whole_and_streamed(text, cuts):
    ids = plain(SMALL, text)
    assert SMALL.decode(ids) == text
    detokenizer, streamed, start = Detokenizer(SMALL), "", 0
    for cut in [*cuts, len(ids)]:
        streamed += detokenizer.push(ids[start : start + cut])
        start += cut
    assert streamed + detokenizer.flush() == text


@given(texts)
def test_the_lower_bound_is_one(text):
    assert SMALL.least_tokens(len(text)) <= len(plain(SMALL, text))


def test_merges_apply_in_the_order_of_the_list():
    """ab before bc: of abc the first merge wins, and abc itself is out of reach."""
    tokens = [*ALPHABET, "bc", "ab", "abc"]
    vocabulary = {
        "tokens": tokens,
        "token_type": [NORMAL] * len(tokens),
        "bos_token_id": None,
        "eos_token_id": None,
    }
    tokenizer = load_tokenizer(bpe_metadata(**vocabulary, merges=["a b", "b c", "a bc"]))
    assert pieces_of(tokenizer, plain(tokenizer, "abc")) == ["ab", "c"]
    llama3 = load_tokenizer(
        bpe_metadata(**vocabulary, merges=["a b", "b c", "a bc"], pre="llama-bpe", add_bos_token=False)
    )
    assert pieces_of(llama3, plain(llama3, "abc")) == ["abc"]  # a whole piece that is a token needs no merges


def test_control_tokens_only_where_they_are_asked_for():
    text = "<|im_start|>the<|im_end|>"
    start, end = SMALL.n_vocab - 2, SMALL.n_vocab - 1
    assert SMALL.encode(text, add_special=False, parse_special=True) == [start, *plain(SMALL, "the"), end]
    assert not any(map(SMALL.is_control, plain(SMALL, text)))
    assert SMALL.decode(plain(SMALL, text)) == text


@pytest.mark.parametrize("pre", ["qwen2", "llama-bpe"])
def test_text_cannot_merge_into_a_control_token(pre):
    """Merges lead to it, and llama-bpe takes a piece that is a token without merging."""
    more = [("<|", NORMAL), ("|>", NORMAL), ("<||>", CONTROL)]
    merges = [*bpe_metadata()["tokenizer.ggml.merges"], "< |", "| >", "<| |>"]
    tokenizer = load_tokenizer(bpe_metadata(more=more, merges=merges, pre=pre))
    assert pieces_of(tokenizer, plain(tokenizer, "<||>")) == ["<|", "|>"]


@pytest.mark.parametrize("kind", [NORMAL, USER_DEFINED])
def test_an_end_of_turn_that_the_file_calls_text_is_none(kind):
    """Older converters list <|im_end|> as an ordinary or added token; a user's text could end its turn then."""
    tokenizer = load_tokenizer(bpe_metadata(more=[("<|im_end|>", kind)]))
    assert not any(map(tokenizer.is_control, plain(tokenizer, "<|im_end|>")))
    assert tokenizer.n_vocab - 1 in tokenizer.eos_ids


def test_added_tokens_match_in_plain_text_and_are_literal():
    """An added token is written as it reads: Ġ in it is the letter, and its spaces are spaces."""
    more = [("<think>", USER_DEFINED), ("a b", USER_DEFINED), ("Ġx", USER_DEFINED), ("<|im_end|>", CONTROL)]
    tokenizer = load_tokenizer(bpe_metadata(more=more))
    ids = plain(tokenizer, "<think>a bĠx x")
    assert pieces_of(tokenizer, ids) == ["<think>", "a b", "Ġx", "Ġ", "x"]
    assert tokenizer.decode(ids) == "<think>a bĠx x"


def test_padding_of_the_embedding_matrix_is_never_written_and_never_read():
    tokenizer = load_tokenizer(bpe_metadata(more=[("[PAD0]", UNUSED), ("<|im_end|>", CONTROL)]))
    pad = tokenizer.n_vocab - 2
    assert pad not in plain(tokenizer, "[PAD0]")
    assert tokenizer.token_bytes(pad) == b""


@pytest.mark.parametrize(
    ("pre", "adds"), [("qwen2", False), ("llama-bpe", True), ("tekken", True), ("gpt-2", False)]
)
def test_bos_where_the_metadata_is_silent_as_the_family_has_it(pre, adds):
    tokenizer = load_tokenizer(bpe_metadata(pre=pre))
    ids = tokenizer.encode("the", add_special=True, parse_special=False)
    assert ids == ([tokenizer.bos_id] if adds else []) + plain(tokenizer, "the")
    told = load_tokenizer(bpe_metadata(pre=pre, add_bos_token=not adds, add_eos_token=True))
    ids = told.encode("the", add_special=True, parse_special=False)
    assert ids == ([] if adds else [told.bos_id]) + plain(told, "the") + [told.vocabulary.eos_id]


def test_no_space_is_put_in_front_whatever_sentencepieces_keys_say():
    tokenizer = load_tokenizer(bpe_metadata(add_space_prefix=True, remove_extra_whitespaces=True))
    assert tokenizer.decode(plain(tokenizer, "the  the ")) == "the  the "
    assert pieces_of(tokenizer, plain(tokenizer, "the")) == ["the"]


def test_a_file_without_pre_is_cut_by_the_default_rules_and_says_so():
    tokenizer = load_tokenizer(bpe_metadata(pre=None))
    assert plain(tokenizer, "a=$5") == plain(load_tokenizer(bpe_metadata(pre="default")), "a=$5")
    assert [note.partition(" is ")[0] for note in tokenizer.notes] == ["tokenizer.ggml.pre"]
    assert not SMALL.notes


def without(*absent):
    """The single bytes, but for some, and one merge."""
    tokens = [character for byte, character in enumerate(ALPHABET) if byte not in absent] + ["hi"]
    kinds = [NORMAL] * len(tokens)
    return bpe_metadata(tokens=tokens, token_type=kinds, merges=["h i"], bos_token_id=None, eos_token_id=None)


def test_a_rare_byte_may_be_absent_and_is_left_out():
    tokenizer = load_tokenizer(without(0x07, 0xF1))
    assert tokenizer.decode(plain(tokenizer, "a\ab😁")) == "ab😁"
    assert "07 f1" in tokenizer.notes[0]


@pytest.mark.parametrize("byte", [0x20, 0x0A, 0x41, 0x80, 0xC3, 0xF0])
def test_a_vocabulary_without_an_ordinary_byte_is_refused(byte):
    with pytest.raises(
        ModelFileError, match=rf"tokenizer.ggml.tokens: no token for byte 0x{byte:02X} \(1 such"
    ):
        load_tokenizer(without(byte))


def test_a_lone_surrogate_is_a_bad_request():
    with pytest.raises(RequestError, match="lone surrogate at character 2"):
        plain(SMALL, "ab\ud800")


def test_repeated_and_empty_tokens_and_merges_do_no_harm():
    merges = bpe_metadata()["tokenizer.ggml.merges"]
    more = [("the", NORMAL), ("the", CONTROL), ("", NORMAL), ("", CONTROL), ("", USER_DEFINED)]
    tokenizer = load_tokenizer(
        bpe_metadata(more=more, merges=[*merges, *merges], bos_token_id=0, eos_token_id=0)
    )
    ids = tokenizer.encode("the other", add_special=False, parse_special=True)
    assert tokenizer.decode(plain(tokenizer, "the other")) == "the other"
    assert tokenizer.is_control(ids[0])


N = len(bpe_metadata()["tokenizer.ggml.tokens"])
HOSTILE = [
    (
        {"pre": "klingon"},
        f"tokenizer.ggml.pre is 'klingon'; known pre-tokenizers: {', '.join(PRE_TOKENIZERS)}",
    ),
    ({"pre": 7}, "tokenizer.ggml.pre is 7; known pre-tokenizers"),
    ({"pre": ["qwen2"]}, "tokenizer.ggml.pre is ['qwen2']; known"),
    ({"pre": "x\n" * 9999}, "tokenizer.ggml.pre is 'x\\nx"),
    ({"merges": None}, "tokenizer.ggml.merges is missing"),
    ({"merges": "a b"}, "tokenizer.ggml.merges is 'a b'; expected an array"),
    ({"merges": []}, "tokenizer.ggml.merges has 0 entries"),
    ({"merges": ["t h", 7]}, "tokenizer.ggml.merges[1] is not UTF-8 text"),
    ({"merges": [b"t h", b"\xff t"]}, "tokenizer.ggml.merges[1] is not UTF-8 text"),
    (
        {"merges": ["t h", "qqq zzz"]},
        "tokenizer.ggml.merges[1] is 'qqq zzz'; expected two tokens with a space",
    ),
    ({"merges": ["t q"]}, "tokenizer.ggml.merges[0] is 't q'"),
    ({"merges": ["th"]}, "tokenizer.ggml.merges[0] is 'th'"),
    ({"merges": [" th"]}, "tokenizer.ggml.merges[0] is ' th'"),
    ({"merges": ["t h e"]}, "tokenizer.ggml.merges[0] is 't h e'"),
    ({"merges": [""]}, "tokenizer.ggml.merges[0] is ''"),
    ({"merges": ["a" * (1 << 20)]}, "tokenizer.ggml.merges[0] is 1048576 bytes long; at most"),
    ({"tokens": None}, "tokenizer.ggml.tokens is missing"),
    ({"tokens": ["a" * (1 << 20)] * N}, "tokenizer.ggml.tokens[0] is 1048576 bytes long; at most 4096"),
    ({"tokens": [b"\xff"] * N}, "tokenizer.ggml.tokens[0] is not UTF-8"),
    ({"tokens": ["a"] * N}, "tokenizer.ggml.tokens: no token for byte 0x09 ("),
    (
        {"token_type": [NORMAL] * 3},
        f"tokenizer.ggml.token_type has 3 entries but tokenizer.ggml.tokens has {N}",
    ),
    ({"token_type": [CONTROL] * N}, "tokenizer.ggml.tokens: no token for byte 0x09 ("),
    (
        {"tokens": ["a" * 129] * N, "token_type": [CONTROL] * N},
        "tokenizer.ggml.tokens[0] is a special token of 129 characters; at most 128",
    ),
    (
        {"tokens": ["a" * 128] * 8193, "token_type": [USER_DEFINED] * 8193},
        "tokenizer.ggml.tokens: the special tokens have 1048704 characters together; at most 1048576",
    ),
    (
        {"bos_token_id": N, "add_bos_token": True},
        f"tokenizer.ggml.bos_token_id is {N}; ids go from 0 to {N - 1}",
    ),
    ({"eot_token_id": "1"}, "tokenizer.ggml.eot_token_id is '1'"),
    (
        {"pre": "llama-bpe", "bos_token_id": None},
        "tokenizer.ggml.add_bos_token is true but tokenizer.ggml.bos",
    ),
]


@pytest.mark.parametrize(("keys", "message"), HOSTILE, ids=[message[15:60] for _, message in HOSTILE])
def test_a_broken_vocabulary_is_refused_in_one_line(keys, message):
    with pytest.raises(ModelFileError) as refused:
        load_tokenizer(bpe_metadata(**keys))
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 500


fragments = st.text("abĠé<|>", max_size=4)


@given(
    st.lists(st.tuples(fragments, st.integers(0, 7)), max_size=6),
    st.lists(st.builds("{} {}".format, fragments, fragments), max_size=6),
    st.sampled_from([*PRE_TOKENIZERS]),
    texts,
)
def test_any_vocabulary_is_refused_or_gives_texts_back(more, merges, pre, text):
    """Six tokens and merges at random behind the bytes: whatever the library would not take is found before."""
    merges = ["a b", *merges]
    metadata = bpe_metadata(["ab"], more=more, merges=merges, pre=pre, add_bos_token=False)
    try:
        tokenizer = load_tokenizer(metadata)
    except ModelFileError:
        return
    assert tokenizer.decode(plain(tokenizer, text)) == text


@pytest.mark.parametrize(
    "text", ["a", "=", " ", "\n", "é", "the", "<|im_start|>", "<|im_start|", "<", "1", "😁"]
)
def test_long_runs_take_no_quadratic_time(text):
    """Sixteen times the text: n log n takes about 20 times as long, a quadratic search 256 times."""
    merges = [f"{a} {a}" for a in ("a" * 2**n for n in range(9))]
    words = ["a" * 2**n for n in range(10)]
    tokens = list(dict.fromkeys([*ALPHABET, *words, "<|im_start|>"]))
    kinds = [NORMAL] * (len(tokens) - 1) + [CONTROL]
    special = {"bos_token_id": None, "eos_token_id": None}
    tokenizer = load_tokenizer(bpe_metadata(tokens=tokens, token_type=kinds, merges=merges, **special))

    def seconds(n):
        start = time.thread_time()
        tokenizer.encode(text * n, add_special=False, parse_special=True)
        return time.thread_time() - start

    seconds(100)
    limit = 80 * max(seconds(2_500), 1e-3)
    assert any(seconds(40_000) < limit for _ in range(3))  # a busy machine may slow one of them
