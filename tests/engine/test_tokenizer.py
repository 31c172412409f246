"""The SPM tokenizer against the sentencepiece package and its own promises."""

import random
import struct
import time

import pytest
import sentencepiece
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import RequestError
from engine.text.tokenizer import load_tokenizer
from support.vocabularies import (
    CONTROL,
    NORMAL,
    UNKNOWN,
    UNUSED,
    USER_DEFINED,
    pieces_with,
    random_texts,
    shared_metadata,
    spm_metadata,
)

REAL = ("vocab/ggml-vocab-llama-spm.gguf", "models/stories-wide256-F16.gguf")
SMALL = load_tokenizer(spm_metadata(pieces_with()))


def plain(tokenizer, text):
    return tokenizer.encode(text, add_special=False, parse_special=False)


def pieces_of(tokenizer, ids):
    return [tokenizer.piece(i) for i in ids]


def test_the_reference_prompts_of_the_story_model(shared):
    import json

    tokenizer = load_tokenizer(shared_metadata(shared / REAL[1]))
    reference = json.loads((shared / "models/reference.json").read_text())
    for sample in reference["stories-wide256-F16.gguf"]["greedy"]:
        assert (
            tokenizer.encode(sample["prompt"], add_special=True, parse_special=False) == sample["prompt_ids"]
        )


def protobuf(number, value):
    """One field of a protobuf message: bytes, a float or an integer."""

    def varint(n):
        return bytes([n]) if n < 128 else bytes([n & 127 | 128]) + varint(n >> 7)

    if isinstance(value, bytes):
        return varint(number << 3 | 2) + varint(len(value)) + value
    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    return varint(number << 3) + varint(value)


def sentencepiece_of(metadata):
    """The same vocabulary in the sentencepiece package: BPE, byte fallback, no normalization."""
    rows = zip(*(metadata[f"tokenizer.ggml.{k}"] for k in ("tokens", "scores", "token_type")), strict=True)
    model = b"".join(
        protobuf(1, protobuf(1, t.encode()) + protobuf(2, float(s)) + protobuf(3, int(k))) for t, s, k in rows
    )
    model += protobuf(2, protobuf(3, 2) + protobuf(35, 1))  # model_type BPE, byte_fallback
    prefix = int(metadata.get("tokenizer.ggml.add_space_prefix", True))
    model += protobuf(3, protobuf(1, b"identity") + protobuf(3, prefix) + protobuf(4, 0) + protobuf(5, 1))
    return sentencepiece.SentencePieceProcessor(model_proto=model)


@pytest.mark.parametrize("name", REAL)
def test_the_ids_are_sentencepieces(shared, name):
    metadata = shared_metadata(shared / name)
    tokenizer, judge = load_tokenizer(metadata), sentencepiece_of(metadata)
    words = [t.replace("▁", " ") for t in metadata["tokenizer.ggml.tokens"][259:]]
    for text in random_texts(7, words, 2000):
        assert plain(tokenizer, text) == judge.encode(text), text


def random_vocabulary(seed):
    """Few characters, few distinct scores (many ties), and a space inside tokens."""
    rng = random.Random(seed)
    texts = list("abc▁")
    while len(texts) < 16:
        joined = rng.choice(texts) + rng.choice(texts)
        if joined not in texts and len(joined) < 7:
            texts.append(joined)
    kinds = [UNUSED if len(t) > 1 and rng.random() < 0.1 else NORMAL for t in texts]
    pieces = pieces_with()[:259]
    pieces += [(t, float(-rng.randrange(4)), k) for t, k in zip(texts, kinds, strict=True)]
    return spm_metadata(pieces, add_space_prefix=False)


@pytest.mark.parametrize("seed", range(40))
def test_ties_and_unused_tokens_fall_as_in_sentencepiece(seed):
    metadata = random_vocabulary(seed)
    tokenizer, judge = load_tokenizer(metadata), sentencepiece_of(metadata)
    rng = random.Random(seed)
    for _ in range(60):
        text = "".join(rng.choices("abc d", k=rng.randrange(1, 40)))
        assert plain(tokenizer, text) == judge.encode(text), text


@given(st.text())
def test_decoding_gives_the_text_back(text):
    text = text.replace("▁", " ")  # the vocabulary cannot tell the two apart
    assert SMALL.decode(plain(SMALL, text)) == text


@pytest.mark.parametrize(
    "text", ["\0", "\ufeff", "\u2028", "a\0b", "\ufeffHello", "the\u2028the", "▁", "▁▁ ▁"]
)
def test_rare_characters_survive(text):
    assert SMALL.decode(plain(SMALL, text)) == text.replace("▁", " ")


def test_an_empty_text_has_no_tokens_but_bos():
    assert plain(SMALL, "") == []
    assert SMALL.encode("", add_special=True, parse_special=False) == [1]


def test_a_lone_surrogate_is_a_bad_request():
    with pytest.raises(RequestError, match="lone surrogate at character 2"):
        plain(SMALL, "ab\ud800")


def test_control_tokens_only_where_they_are_asked_for():
    text = "<s>Hello</s>"
    assert SMALL.encode(text, add_special=False, parse_special=True) == [1, *plain(SMALL, "Hello"), 2]
    assert not any(map(SMALL.is_control, plain(SMALL, text)))
    assert SMALL.decode(plain(SMALL, text)) == text


def test_text_cannot_merge_into_a_control_token():
    """</s> would be reachable: its halves are tokens, and older converters call it a normal one."""
    halves = [("</", 5.0, NORMAL), ("s>", 5.0, NORMAL), ("</s>", 9.0, NORMAL)]
    pieces = pieces_with(*halves)
    tokenizer = load_tokenizer(spm_metadata(pieces, eos_token_id=len(pieces) - 1))
    assert pieces_of(tokenizer, plain(tokenizer, "a</s>"))[-2:] == ["</", "s>"]


def test_text_cannot_spell_a_byte_token():
    halves = [("<0x4", 5.0, NORMAL), ("<0", 5.0, NORMAL), ("<0x", 5.0, NORMAL), ("1>", 5.0, NORMAL)]
    tokenizer = load_tokenizer(spm_metadata(pieces_with(*halves)))
    assert tokenizer.decode(plain(tokenizer, "<0x41>")) == "<0x41>"


def test_user_defined_tokens_match_in_plain_text_the_longest_first():
    more = [("<|a|>", 0.0, USER_DEFINED), ("<|a|><|a|>", 0.0, USER_DEFINED), ("▁▁▁", 0.0, USER_DEFINED)]
    tokenizer = load_tokenizer(spm_metadata(pieces_with(*more), add_space_prefix=False))
    assert pieces_of(tokenizer, plain(tokenizer, "x<|a|><|a|><|a|>y")) == ["x", "<|a|><|a|>", "<|a|>", "y"]
    assert pieces_of(tokenizer, plain(tokenizer, "x   y")) == ["x", "▁▁▁", "y"]
    assert tokenizer.decode(plain(tokenizer, "x   y<|a|>")) == "x   y<|a|>"


def test_the_space_prefix_stands_at_the_start_and_after_special_tokens():
    ids = SMALL.encode("Hello<s>Hello", add_special=False, parse_special=True)
    assert pieces_of(SMALL, ids) == ["▁Hello", "<s>", "▁Hello"]
    bare = load_tokenizer(spm_metadata(pieces_with(), add_space_prefix=False))
    ids = bare.encode("Hello<s>Hello", add_special=False, parse_special=True)
    assert pieces_of(bare, ids) == ["Hello", "<s>", "Hello"]


def test_bos_and_eos_as_the_metadata_says():
    tokenizer = load_tokenizer(spm_metadata(pieces_with(), add_bos_token=False, add_eos_token=True))
    assert tokenizer.encode("a", add_special=True, parse_special=False)[-1] == 2
    assert 1 not in tokenizer.encode("a", add_special=True, parse_special=False)


def test_extra_spaces_collapse_where_the_vocabulary_asks():
    tokenizer = load_tokenizer(spm_metadata(pieces_with(), remove_extra_whitespaces=True))
    assert plain(tokenizer, "  the   the ") == plain(tokenizer, "the the")


def test_every_known_end_of_turn_is_an_end():
    more = [("<|im_end|>", 0.0, CONTROL), ("<|end|>", 0.0, NORMAL), ("<turn>", 0.0, CONTROL)]
    pieces = pieces_with(*more)
    n = len(pieces)
    tokenizer = load_tokenizer(spm_metadata(pieces, eot_token_id=n - 1))
    assert tokenizer.eos_ids == {2, n - 3, n - 2, n - 1}


def test_a_text_that_spells_bos_or_eos_gets_no_second_one():
    tokenizer = load_tokenizer(spm_metadata(pieces_with(), add_eos_token=True))

    def ids(text):
        return tokenizer.encode(text, add_special=True, parse_special=True)

    assert ids("<s>the") == ids("the") == ids("the</s>") == ids("<s>the</s>")
    assert ids("<s>") == ids("</s>") == [1, 2]
    assert ids("<s><s>the")[:3] == [1, 1, *ids("the")[1:2]]
    bare = load_tokenizer(spm_metadata(pieces_with(), add_bos_token=False))
    assert bare.encode("the<s>", add_special=True, parse_special=True)[-1] == 1


def test_control_and_unknown_tokens_add_no_text():
    assert SMALL.token_bytes(0) == SMALL.token_bytes(1) == b""
    assert SMALL.token_bytes(3 + 0x41) == b"A"
    assert SMALL.decode([1, *plain(SMALL, "Hello"), 2]) == "Hello"


def test_without_byte_tokens_unknown_characters_are_the_unknown_token():
    tokenizer = load_tokenizer(
        spm_metadata(
            [("<unk>", 0.0, UNKNOWN), ("a", 0.0, NORMAL)],
            bos_token_id=None,
            eos_token_id=None,
            add_bos_token=False,
            add_space_prefix=False,
        )
    )
    assert plain(tokenizer, "aéa") == [1, 0, 1]


@pytest.mark.parametrize("character", "a=▁é")
def test_long_runs_take_no_quadratic_time(character):
    """Doubling a quadratic cost four times over is 256 times as long; n log n is about 20."""

    def seconds(n):
        start = time.thread_time()
        plain(SMALL, character * n)
        return time.thread_time() - start

    seconds(1000)
    assert seconds(160_000) < 80 * seconds(10_000)


@given(st.text())
def test_the_lower_bound_is_one(text):
    assert SMALL.least_tokens(len(text)) <= len(plain(SMALL, text))
