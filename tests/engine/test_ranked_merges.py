"""Vocabularies whose ids are ranks and that list no merges: ids as tiktoken's rule gives them."""

import random
import time
from itertools import pairwise

import pytest
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

from engine.errors import ModelFileError
from engine.text.bpe import ALPHABET
from engine.text.pre_tokenizers import PRE_TOKENIZERS
from engine.text.ranked_merges import merges_by_rank
from engine.text.tokenizer import load_tokenizer
from support.published_cuts import PUBLISHED, published_pieces, random_text
from support.vocabularies import CONTROL, NORMAL, bpe_metadata

WORDS = (
    "the",
    "then",
    "there",
    "others",
    "in",
    "inner",
    "winner",
    "aaaa",
    "banana",
    "漢字",
    "漢字学",
    "'ll",
    "12",
)


def trained_tokens(n: int) -> list[str]:
    """The tokens of a BPE training in the order in which they were found, the single bytes first."""
    rng = random.Random(n)
    texts = [" ".join(rng.choices(WORDS, k=12)) + random_text(rng) for _ in range(300)]
    tokenizer = Tokenizer(models.BPE())
    cuts = pre_tokenizers.Split(Regex(PRE_TOKENIZERS["kimi-k2"].splits[0]), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([cuts, pre_tokenizers.ByteLevel(use_regex=False)])
    tokenizer.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=n, initial_alphabet=ALPHABET, show_progress=False)
    )
    return sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().__getitem__)


def kimi_metadata(tokens: list[str], **keys):
    kinds = [NORMAL] * len(tokens) + [CONTROL]
    special = {"bos_token_id": None, "eos_token_id": len(tokens)}
    return bpe_metadata(tokens=[*tokens, "[EOS]"], token_type=kinds, pre="kimi-k2", **special, **keys)


def joined_by_rank(ranks: dict[str, int], piece: str) -> list[int]:
    """tiktoken's rule: of the neighbours that make a token the pair of the lowest rank, the leftmost of equals."""
    parts = [ALPHABET[byte] for byte in piece.encode()]
    while True:
        found = [(ranks[a + b], i) for i, (a, b) in enumerate(pairwise(parts)) if a + b in ranks]
        if not found:
            return [ranks[part] for part in parts]
        _, i = min(found)
        parts[i : i + 2] = [parts[i] + parts[i + 1]]


def test_ids_without_merges_are_tiktokens():
    tokens = trained_tokens(700)
    ranks = {text: rank for rank, text in enumerate(tokens)}
    tokenizer = load_tokenizer(kimi_metadata(tokens, merges=None))
    rng = random.Random(0)
    for _ in range(500):
        text = "".join(rng.choices(WORDS, k=4)) + random_text(rng)
        expected = [
            i for piece in published_pieces(PUBLISHED["kimi-k2"], text) for i in joined_by_rank(ranks, piece)
        ]
        assert tokenizer.encode(text, add_special=False, parse_special=False) == expected, ascii(text)


def test_merges_of_the_file_count_where_it_has_them():
    tokens = [*ALPHABET, "ab", "bc"]
    ranked = load_tokenizer(kimi_metadata(tokens, merges=None))
    listed = load_tokenizer(kimi_metadata(tokens, merges=["b c", "a b"]))
    pieces = [
        [t.piece(i) for i in t.encode("abc", add_special=False, parse_special=False)]
        for t in (ranked, listed)
    ]
    assert pieces == [["ab", "c"], ["a", "bc"]]


def test_no_other_family_does_without_merges():
    with pytest.raises(ModelFileError, match=r"tokenizer\.ggml\.merges is missing"):
        load_tokenizer(bpe_metadata(merges=None, pre="gpt-4o"))


def test_tokens_too_long_to_divide_are_refused_at_once():
    tokens = [*ALPHABET, *("a" * 4000 + str(n) for n in range(20))]
    start = time.thread_time()
    with pytest.raises(ModelFileError, match="too long to find the merges from their order"):
        load_tokenizer(kimi_metadata(tokens, merges=None))
    assert time.thread_time() - start < 1
    assert merges_by_rank({"a": 0, "b": 1, "ab": 2}) == [("a", "b")]
