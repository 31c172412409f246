"""Real vocabularies: the peer's ids of its own samples, and every text back as it was, whole or streamed."""

import random
from itertools import pairwise

import pytest

from engine.text.bpe import ALPHABET
from engine.text.detokenizer import Detokenizer
from engine.text.tokenizer import load_tokenizer
from support.vocabularies import random_texts, shared_metadata

SPM = ("llama-spm", "phi-3")
BPE = (
    "deepseek-coder",
    "deepseek-llm",
    "falcon",
    "gpt-2",
    "llama-bpe",
    "mpt",
    "qwen2",
    "refact",
    "starcoder",
)
ALL = (*SPM, *BPE, "gpt-neox")  # gpt-neox comes without expected ids
USED_IN_UTF8 = {*range(0xC0), *range(0xC2, 0xF5)}
N_TEXTS = pytest.mark.parametrize("n_texts", [200, pytest.param(10_000, marks=pytest.mark.slow)])


@pytest.fixture(scope="module")
def vocabulary(shared, request):
    """Path, metadata and tokenizer; loaded once for the tests of one name, which run one after another."""
    path = shared / "vocab" / f"ggml-vocab-{request.param}.gguf"
    metadata = shared_metadata(path)
    return path, metadata, load_tokenizer(metadata)


def plain(tokenizer, text):
    return tokenizer.encode(text, add_special=False, parse_special=False)


@pytest.mark.parametrize("vocabulary", [*SPM, *BPE], indirect=True)
def test_the_peers_ids_of_every_sample(vocabulary):
    path, _, tokenizer = vocabulary
    samples = path.with_name(f"{path.name}.inp").read_bytes().decode().split("\n__ggml_vocab_test__\n")
    expected = path.with_name(f"{path.name}.out").read_text().split("\n")
    for sample, ids in zip(samples, expected, strict=True):
        assert plain(tokenizer, sample) == [int(i) for i in ids.split()], sample
        assert tokenizer.decode(plain(tokenizer, sample)) == sample


def readable_in(metadata):
    """The text without what the vocabulary cannot tell: in SPM U+2581 is a space, some BPE ones lack bytes."""
    if metadata["tokenizer.ggml.model"] == "llama":
        return lambda text: text.replace("▁", " ")
    known = set(metadata["tokenizer.ggml.tokens"])
    missing = {byte for byte, character in enumerate(ALPHABET) if character not in known} & USED_IN_UTF8
    return lambda text: "".join(c for c in text if not missing.intersection(c.encode())) if missing else text


@N_TEXTS
@pytest.mark.parametrize("vocabulary", ALL, indirect=True)
def test_random_texts_come_back_whole_and_streamed(vocabulary, n_texts):
    _, metadata, tokenizer = vocabulary
    readable, rng = readable_in(metadata), random.Random(n_texts)
    words = [tokenizer.token_bytes(i).decode("utf-8", "ignore") for i in range(tokenizer.n_vocab)]
    words += [tokenizer.piece(i) for i in range(tokenizer.n_vocab) if tokenizer.is_control(i)] * 20
    for text in map(readable, random_texts(n_texts, words, n_texts)):
        ids = plain(tokenizer, text)
        assert tokenizer.decode(ids) == text, ascii(text)
        assert not any(map(tokenizer.is_control, ids)), ascii(text)
        whole = b"".join(map(tokenizer.token_bytes, ids)).decode()
        assert streamed(tokenizer, ids, rng) == whole, ascii(text)


def streamed(tokenizer, ids, rng):
    """What a client puts together, a few tokens at a time: characters of several tokens are cut apart too."""
    cuts = sorted({0, len(ids), *(rng.randrange(len(ids) + 1) for _ in range(len(ids) // 2 + 1))})
    detokenizer = Detokenizer(tokenizer)
    return "".join([detokenizer.push(ids[a:b]) for a, b in pairwise(cuts)]) + detokenizer.flush()
