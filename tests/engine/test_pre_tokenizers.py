"""Each family's cuts: corners by hand, random texts against the published patterns, and no slow text."""

import random
import time

import pytest
from tokenizers import Regex
from tokenizers.pre_tokenizers import Sequence, Split

from engine.text.pre_tokenizers import PRE_TOKENIZERS
from support.published_cuts import PUBLISHED, published_pieces, random_text

FAMILY_EMOJI = "👩‍👩‍👧"  # three people joined by U+200D, which is neither a letter nor a space
GPT2, TIKTOKEN = ("gpt-2", "mpt"), ("llama-bpe", "smaug-bpe", "glm4", "chatglm-bpe", "qwen2")
IN_THREES = ("llama-bpe", "glm4", "gpt-4o", "minimax-m2", "kimi-k2", "deepseek-v3", "falcon", "default")


def cutter(splits):
    return Sequence([Split(Regex(pattern), "isolated") for pattern in splits])


def pieces_of(splits, text):
    return [piece for piece, _ in cutter(splits).pre_tokenize_str(text)]


CUTS = [
    (GPT2, "I'll  I'LL", "I|'ll| | I|'|LL"),
    (TIKTOKEN, "I'll  I'LL", "I|'ll| | I|'LL"),
    (("tekken",), "I'll  I'LL", "I|'ll| | I|'LL"),
    (("gpt-4o", "minimax-m2", "kimi-k2"), "I'll  I'LL'x", "I'll| | I'LL|'x"),  # a word keeps its contraction
    (("deepseek-v3",), "I'll .net", "I|'ll| .|net"),
    (("kimi-k2",), "camelCaseHTML a//\n/", "camel|Case|HTML| a|//\n|/"),
    (("gpt-4o",), "camelCaseHTML a//\n/", "camel|Case|HTML| a|//\n/"),
    (("kimi-k2",), "ab你好カ한글 々c", "ab|你好|カ한글| |々|c"),
    (("deepseek-v3",), "ab你好カ한글 c12345", "ab|你好カ|한글| c|123|45"),
    (("gpt-4o",), "ab你好カ한글 c", "ab你好カ한글| c"),
    (("starcoder", "refact"), "don't", "don|'t"),
    (("falcon", "default"), "don't", "don|'|t"),  # punctuation goes first
    (GPT2, " 12345 6", " 12345| 6"),
    (("starcoder", "refact", "smollm"), " 12 6", " |1|2| |6"),
    (("qwen2", "qwen35", "bailingmoe2", "tekken", "deepseek-coder", "starcoder"), "1234", "1|2|3|4"),
    (IN_THREES, "1234567", "123|456|7"),
    (("deepseek-llm",), "a1234567", "a|1234567"),
    (("qwen2", "tekken"), " ½Ⅷ٣", " |½|Ⅷ|٣"),
    (("llama-bpe",), " ½Ⅷ٣4", " |½Ⅷ٣|4"),
    (GPT2, "a  b   ", "a| | b|   "),
    (TIKTOKEN, "a  b   ", "a| | b|   "),
    (("tekken", "smollm", "falcon"), "a  b   ", "a| | b|   "),
    (("deepseek-llm", "deepseek-coder"), "a  b", "a| | b"),
    (GPT2, "a\n\n b", "a|\n\n| b"),
    (TIKTOKEN, "a\n\n b", "a|\n\n| b"),
    (TIKTOKEN, "a \n \n\n  b", "a| \n \n\n| | b"),
    (TIKTOKEN, "a!\r\n\r\nb", "a|!\r\n\r\n|b"),
    (("deepseek-llm", "deepseek-coder"), "\n\r\n", "\n|\r|\n"),
    (TIKTOKEN, "你好,世界", "你好|,世界"),
    (GPT2, "你好,世界", "你好|,|世界"),
    (("deepseek-llm",), "ab你好한글 c", "ab|你好한글| c"),
    (TIKTOKEN, FAMILY_EMOJI + " x", FAMILY_EMOJI + "| x"),
    (GPT2, "x" + FAMILY_EMOJI, "x|" + FAMILY_EMOJI),
    (TIKTOKEN, "e\u0301te", "e|\u0301te"),  # a mark is no letter, but may stand before letters
    (GPT2, "e\u0301te", "e|\u0301|te"),
    (("tekken", "qwen35"), "e\u0301te", "e\u0301te"),
    (("qwen35",), "!\u0301a \u0301!", "!\u0301a| \u0301|!"),  # a mark is a letter, and no punctuation
    (("tekken",), "camelCaseHTML a//b", "camel|Case|HTML| a|//|b"),
    (("falcon",), "x`y $5", "x|`|y| |$|5"),
    (("default",), "x`y $5", "x|`|y| |$|5"),
    (("llama-bpe",), " \u00a0x", " |\u00a0x"),
]
CUTS = [(name, text, expected.split("|")) for names, text, expected in CUTS for name in names]


@pytest.mark.parametrize(("name", "text", "pieces"), CUTS, ids=[f"{n} {t!a}" for n, t, _ in CUTS])
def test_a_corner_is_cut_as_the_family_cuts_it(name, text, pieces):
    assert pieces_of(PRE_TOKENIZERS[name].splits, text) == pieces


# Some of every class that a pattern names, what looks like a space, and letters that fold to ASCII ones.
CHARACTERS = "aZ9 \t\n\r'sSTRrevVlLdDmM.,!/$`_é\u0301ßǅʰ本한あ٣½Ⅷ😁A"
CHARACTERS += "\u00a0\u2003\u3000\u0085\u2028\u200d\ufeff\u017f\u212a"


def mixed_texts(seed, n):
    """Short runs of few characters, so that every neighbourhood comes up."""
    rng = random.Random(seed)
    for _ in range(n):
        few = rng.sample(CHARACTERS, rng.randrange(1, 7))
        yield "".join(rng.choice(few) * rng.choice((1, 1, 1, 2, 3, 5)) for _ in range(rng.randrange(1, 14)))


@pytest.mark.parametrize("n_texts", [300, pytest.param(20_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", PUBLISHED)
def test_a_family_cuts_as_its_published_pattern(name, n_texts):
    """Texts of many scripts, and runs of few characters; the judge is another engine (support/published_cuts.py)."""
    ours, rng = cutter(PRE_TOKENIZERS[name].splits), random.Random(f"{name} {n_texts}")
    texts = (random_text(rng) for _ in range(n_texts))
    for text in (*texts, *mixed_texts(name, n_texts // 2)):
        assert [piece for piece, _ in ours.pre_tokenize_str(text)] == published_pieces(
            PUBLISHED[name], text
        ), ascii(text)


@pytest.mark.parametrize("name", {p.splits: n for n, p in PRE_TOKENIZERS.items()}.values())
def test_the_pieces_are_the_whole_text(name):
    ours = cutter(PRE_TOKENIZERS[name].splits)
    for text in mixed_texts(name, 300):
        assert "".join(piece for piece, _ in ours.pre_tokenize_str(text)) == text


RUNS = ("a", "A", "1", "é", "本", " ", "\n", " \n", "\t ", "!", "'", "'l", "\u0301", "A本", "Aa", "a  ", "$a")


@pytest.mark.parametrize("name", {p.splits: n for n, p in PRE_TOKENIZERS.items()}.values())
@pytest.mark.parametrize("run", RUNS, ids=ascii)
def test_no_run_takes_quadratic_time(name, run):
    """Sixteen times the text: a linear search takes sixteen times as long, a quadratic one 256 times, or seconds."""
    ours = cutter(PRE_TOKENIZERS[name].splits)

    def seconds(n):
        start = time.thread_time()
        ours.pre_tokenize_str(run * n + "1\n")  # behind which the published `\s+$` searches quadratically
        return time.thread_time() - start

    seconds(100)
    limit = 80 * max(seconds(1_000), 5e-4)
    assert any(seconds(16_000) < limit for _ in range(3))  # a busy machine may slow one of them
