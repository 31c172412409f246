"""Whatever is wrong with a vocabulary is one line that names the key."""

import numpy as np
import pytest

from engine.errors import ModelFileError
from engine.text.tokenizer import load_tokenizer
from support.vocabularies import BYTE, CONTROL, NORMAL, pieces_with, spm_metadata

N = len(pieces_with())

HOSTILE = [
    ({"model": None}, "tokenizer.ggml.model is missing; known tokenizer models: llama, gpt2"),
    ({"model": "bert"}, "tokenizer.ggml.model is 'bert'; known tokenizer models: llama, gpt2"),
    ({"model": ["llama"]}, "tokenizer.ggml.model is ['llama']"),
    ({"tokens": None}, "tokenizer.ggml.tokens is missing"),
    ({"tokens": []}, "tokenizer.ggml.tokens has 0 entries"),
    ({"tokens": 7}, "tokenizer.ggml.tokens is 7"),
    ({"tokens": [7] * N}, "tokenizer.ggml.tokens[0] is not UTF-8"),
    ({"tokens": ["a"] * 5 + ["\udcff"] + ["a"] * (N - 6)}, "tokenizer.ggml.tokens[5] is not UTF-8"),
    ({"tokens": [b"a", b"\xff"] + [b"a"] * (N - 2)}, "tokenizer.ggml.tokens[1] is not UTF-8"),
    ({"tokens": ["a" * (1 << 20)] * N}, "tokenizer.ggml.tokens[0] is 1048576 bytes long; at most 4096"),
    ({"scores": None}, "tokenizer.ggml.scores is missing"),
    ({"scores": [0.0] * 3}, f"tokenizer.ggml.scores has 3 entries but tokenizer.ggml.tokens has {N}"),
    ({"scores": [float("nan")] * N}, "tokenizer.ggml.scores[0] is nan"),
    ({"scores": ["high"] * N}, "tokenizer.ggml.scores[0] is 'high'"),
    ({"token_type": [1] * (N + 1)}, f"tokenizer.ggml.token_type has {N + 1} entries"),
    ({"token_type": [7] * N}, "tokenizer.ggml.token_type[0] is 7"),
    ({"token_type": [1.5] * N}, "tokenizer.ggml.token_type[0] is 1.5"),
    ({"token_type": [BYTE] * N}, "tokenizer.ggml.tokens[0] is '<unk>'; byte tokens read <0x00> to <0xFF>"),
    ({"token_type": [NORMAL] * N}, "tokenizer.ggml.tokens: 0 of the 256 byte tokens and no unknown token"),
    ({"token_type": [CONTROL] * N}, "tokenizer.ggml.tokens: 0 of the 256 byte tokens"),
    ({"bos_token_id": N}, f"tokenizer.ggml.bos_token_id is {N}; ids go from 0 to {N - 1}"),
    ({"bos_token_id": -1}, "tokenizer.ggml.bos_token_id is -1"),
    ({"eos_token_id": -1, "add_eos_token": True}, "tokenizer.ggml.eos_token_id is -1"),
    ({"eot_token_id": True}, "tokenizer.ggml.eot_token_id is True"),
    ({"unknown_token_id": 1.5}, "tokenizer.ggml.unknown_token_id is 1.5"),
    ({"padding_token_id": "0"}, "tokenizer.ggml.padding_token_id is '0'"),
    ({"add_bos_token": "yes"}, "tokenizer.ggml.add_bos_token is 'yes'"),
]


@pytest.mark.parametrize(("keys", "message"), HOSTILE, ids=[message[15:55] for _, message in HOSTILE])
def test_a_broken_vocabulary_is_refused_in_one_line(keys, message):
    with pytest.raises(ModelFileError) as refused:
        load_tokenizer(spm_metadata(pieces_with(), **keys))
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 300


def test_special_ids_that_a_file_leaves_out_are_sentencepiece_s() -> None:
    """As the peers take them."""
    left_out = {"bos_token_id": None, "eos_token_id": None, "unknown_token_id": None}
    defaulted, whole = (load_tokenizer(spm_metadata(pieces_with(), **keys)) for keys in (left_out, {}))
    assert (defaulted.bos_id, defaulted.eos_ids) == (whole.bos_id, whole.eos_ids) == (1, {2})
    for text in ("abc", "never seen: \U0001f600"):
        ids = [t.encode(text, add_special=True, parse_special=False) for t in (defaulted, whole)]
        assert ids[0] == ids[1]


def test_a_word_in_the_place_of_a_special_token_is_none() -> None:
    """Then a text that has to begin with BOS cannot be made."""
    word = [NORMAL if i == 1 else kind for i, (_, _, kind) in enumerate(pieces_with())]
    with pytest.raises(ModelFileError, match=r"add_bos_token is true but .*bos_token_id is missing"):
        load_tokenizer(spm_metadata(pieces_with(), bos_token_id=None, token_type=word))


def test_without_token_types_bytes_and_the_named_specials_are_known_by_their_texts():
    tokenizer, whole = (
        load_tokenizer(spm_metadata(pieces_with(), **keys)) for keys in ({"token_type": None}, {})
    )
    for text in ("Hello", "a\u00e9\u4e16</s><s>"):
        ids = whole.encode(text, add_special=True, parse_special=True)
        assert tokenizer.encode(text, add_special=True, parse_special=True) == ids
    assert tokenizer.is_control(2)


def test_lists_may_be_arrays_and_tokens_bytes():
    pieces = pieces_with()
    tokenizer = load_tokenizer(
        spm_metadata(
            pieces,
            tokens=[text.encode() for text, _, _ in pieces],
            scores=np.array([score for _, score, _ in pieces], np.float32),
            token_type=np.array([kind for _, _, kind in pieces], np.int32),
            bos_token_id=np.uint32(1),
            add_bos_token=np.bool_(True),
        )
    )
    ids = tokenizer.encode("Hello", add_special=True, parse_special=False)
    assert [tokenizer.piece(i) for i in ids] == ["<s>", "▁Hello"]


def test_empty_and_repeated_tokens_do_no_harm():
    more = [("", 0.0, NORMAL), ("", 0.0, CONTROL), ("", 0.0, 4), ("the", 0.0, NORMAL), ("the", 0.0, NORMAL)]
    tokenizer = load_tokenizer(spm_metadata(pieces_with(*more)))
    ids = tokenizer.encode("the the", add_special=False, parse_special=True)
    assert tokenizer.decode(ids) == "the the"
