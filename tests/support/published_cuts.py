r"""How published tokenizers cut a text, by their own regular expressions, and texts that try every part of one.

The patterns are those of the models' tokenizer.json (a Sequence of Splits, "Isolated"), of Moonshot's
tokenization_kimi.py and of OpenAI's o200k_base in tiktoken. The `regex` module reads them: another engine than the
Oniguruma that the server uses, so that a rewritten pattern and a misread one are both found.
"""

import random
import unicodedata
from collections.abc import Iterator, Sequence

import regex

CONTRACTION = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
UPPER, LOWER = r"\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}", r"\p{Ll}\p{Lm}\p{Lo}\p{M}"


def by_case(upper: str, lower: str, suffix: str, rest: str) -> str:
    """Words that begin with capitals, or are all capitals, and what else the pattern takes."""
    return (
        rf"[^\r\n\p{{L}}\p{{N}}]?[{upper}]*[{lower}]+{suffix}|"
        rf"[^\r\n\p{{L}}\p{{N}}]?[{upper}]+[{lower}]*{suffix}|{rest}|{SPACES}"
    )


LLAMA3 = (
    rf"{CONTRACTION}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{SPACES}"
)
QWEN2 = LLAMA3.replace("{1,3}", "")
QWEN35 = (
    rf"{CONTRACTION}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}|"
    rf" ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*|{SPACES}"
)
TEKKEN = by_case(UPPER, LOWER, "", r"\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*")

#: tokenizer.ggml.pre -> the published patterns, each applied to the pieces that the one before left.
PUBLISHED: dict[str, tuple[str, ...]] = {
    "llama-bpe": (LLAMA3,),
    "qwen2": (QWEN2,),
    "qwen35": (QWEN35,),
    "glm4": (LLAMA3,),
    "tekken": (TEKKEN,),
    "deepseek-coder": (r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-\ud7ff]+", r"\p{N}"),
}


def published_pieces(patterns: Sequence[str], text: str) -> list[str]:
    """The pieces of a text: each pattern's matches, and what lies between them."""
    pieces = [text]
    for pattern in patterns:
        pieces = [part for piece in pieces for part in _isolated(pattern, piece)]
    return pieces


def _isolated(pattern: str, piece: str) -> Iterator[str]:
    end = 0
    for match in regex.finditer(pattern, piece, regex.V1):  # V1: [a&&[^b]] is an intersection
        yield from filter(None, (piece[end : match.start()], match[0]))
        end = match.end()
    yield from filter(None, (piece[end:],))


def _assigned(first: int, last: int) -> str:
    """The characters that Python's Unicode tables know. U+0295 was a small letter until Unicode 16."""
    characters = map(chr, range(first, last + 1))
    return "".join(c for c in characters if unicodedata.category(c) not in ("Cn", "Cs") and c != "\u0295")


LETTERS = (
    "abcdefgstrvemld",
    "ABCDEFGSTRVEMLD",
    "éßñøžÉŽſK",  # also the two letters that fold to ASCII's s and k
    "ǅǈʰˀªº",  # letters with both cases, modifiers, ordinals
    "αβγΑΒΓжшыЖШЫѣԱա",
    _assigned(0x05D0, 0x05EA) + "ابتثسشعغ",
    "अआकखगกขคงაბგ",
    "あいうえカキクー々",
    "一二三漢字學习〇〆" + "\U00020000\U0002a6d6\uf900",
    "가나다한글각",
    "𝐀𝐚𝓑𝕔𐐀𐐨",
)
MARKS = "\u0301\u0308\u0327\u05b0\u0650\u093e\u094d\u0e34\u302a\u3099\u20dd\ufe0f\U00016ff0"
DIGITS = ("0123456789", "٠١٢३४५", "１２３", "½⅓²₃ⅧⅯ〡〩", "𝟎𝟏𞥐")
SPACE = (
    " ",
    "  ",
    "\t",
    "\n",
    "\r\n",
    "\r",
    "\n\n",
    "\u00a0",
    "\u3000",
    "\u2003",
    "\u0085",
    "\u2028",
    "\v",
    "\f",
)
OTHER = (
    "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~",
    "¡¿«»“”‘’…—–·",
    "，。！？、：；（）「」『』",
    "€£¥+=<>|^~¬±×÷∑√∞≠",
    "😀👍🏽👩🇩🇪❤",
    "\u200b\u200d\u200e\ufeff\u00ad\x00\x01\x1c\x7f\ue000",
)
CONTRACTIONS = tuple(
    f"{quote}{end}"
    for quote in "'’"
    for end in ["s", "t", "re", "ve", "m", "ll", "d", "S", "T", "RE", "Ve", "M", "lL", "D", "ſ", "x"]
)
ANY = _assigned(0x20, 0x2FFF) + _assigned(0xA000, 0xABFF) + _assigned(0xF900, 0x1F9FF)


def random_text(rng: random.Random) -> str:
    """A few words, numbers, blanks and signs of several scripts, beside each other in every order."""
    return "".join(_part(rng) for _ in range(rng.randrange(1, 14)))


def _part(rng: random.Random) -> str:
    kind = rng.randrange(8)
    if kind < 2:
        return _word(rng)
    if kind == 2:
        return _run(rng, rng.choice(DIGITS), 7)
    if kind == 3:
        return rng.choice(SPACE) * rng.choice((1, 1, 1, 2, 3))
    if kind == 4:
        return _run(rng, rng.choice(OTHER), 4)
    if kind == 5:
        return rng.choice(CONTRACTIONS)
    if kind == 6:
        return rng.choice(MARKS) * rng.choice((1, 1, 2))
    return _run(rng, ANY, 2)


def _word(rng: random.Random) -> str:
    """Letters of one or two alphabets, now and then with a mark between."""
    alphabet = (
        rng.choice(LETTERS) + rng.choice(LETTERS) * rng.randrange(2) + rng.choice(MARKS) * rng.randrange(2)
    )
    return _run(rng, alphabet, 6)


def _run(rng: random.Random, alphabet: str, longest: int) -> str:
    return "".join(rng.choices(alphabet, k=rng.randrange(1, longest + 1)))
