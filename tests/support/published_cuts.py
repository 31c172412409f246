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
LING = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|"
    r"\s*[\r\n]|\s+(?!\S)|\s+"
)
O200K = by_case(UPPER, LOWER, f"{CONTRACTION}?", r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*")
KIMI = r"[\p{Han}]+|" + by_case(
    rf"{UPPER}&&[^\p{{Han}}]",
    rf"{LOWER}&&[^\p{{Han}}]",
    f"{CONTRACTION}?",
    r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*",
)
TEKKEN = by_case(UPPER, LOWER, "", r"\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*")

DEEPSEEK_LETTERS = (
    "A-Za-z\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf\u01c4-\u0293\u0295-\u02af"
    "\u0370-\u0373\u0376\u0377\u037b-\u037d\u037f\u0386\u0388-\u038a\u038c\u038e-\u03a1\u03a3-\u03f5"
    "\u03f7-\u0481\u048a-\u052f\u0531-\u0556\u10a0-\u10c5\u13a0-\u13f5\u13f8-\u13fd\u1c90-\u1cba"
    "\u1cbd-\u1cbf\u1d00-\u1d2b\u1d6b-\u1d77\u1d79-\u1d9a\u1e00-\u1f15\u1f18-\u1f1d\u1f20-\u1f45"
    "\u1f48-\u1f4d\u1f50-\u1f57\u1f59\u1f5b\u1f5d\u1f5f-\u1f7d\u1f80-\u1fb4\u1fb6-\u1fbc\u1fbe"
    "\u1fc2-\u1fc4\u1fc6-\u1fcc\u1fd0-\u1fd3\u1fd6-\u1fdb\u1fe0-\u1fec\u1ff2-\u1ff4\u1ff6-\u1ffc\u2102"
    "\u2107\u210a-\u2113\u2115\u2119-\u211d\u2124\u2126\u2128\u212a-\u212d\u212f-\u2134\u2139"
    "\u213c-\u213f\u2145-\u2149\u214e\u2183\u2184\u2c00-\u2c7b\u2c7e-\u2ce4\u2ceb-\u2cee\u2cf2\u2cf3"
    "\ua640-\ua66d\ua680-\ua69b\ua722-\ua76f\ua771-\ua787\ua78b-\ua78e\uab70-\uabbf\ufb00-\ufb06"
    "\ufb13-\ufb17\uff21-\uff3a\uff41-\uff5a\U00010400-\U0001044f\U000104b0-\U000104d3"
    "\U000104d8-\U000104fb\U00010c80-\U00010cb2\U00010cc0-\U00010cf2\U000118a0-\U000118df"
    "\U0001e900-\U0001e943"
)

#: tokenizer.ggml.pre -> the published patterns, each applied to the pieces that the one before left.
PUBLISHED: dict[str, tuple[str, ...]] = {
    "llama-bpe": (LLAMA3,),
    "qwen2": (QWEN2,),
    "qwen35": (QWEN35,),
    "glm4": (LLAMA3,),
    "tekken": (TEKKEN,),
    "gpt-4o": (O200K,),
    "minimax-m2": (O200K,),
    "bailingmoe2": (LING,),
    "kimi-k2": (KIMI,),
    "deepseek-v3": (
        r"\p{N}{1,3}",
        "[一-龥぀-ゟ゠-ヿ]+",
        r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+|"""
        rf" ?[\p{{P}}\p{{S}}]+[\r\n]*|{SPACES}",
    ),
    "deepseek-llm": (
        r"[\r\n]",
        rf"\s?[{DEEPSEEK_LETTERS}]+",
        r"\s?[!-/:-~！-／：-～‘-‟\u3000-。]+",
        r"\s+$",
        "[一-龥ࠀ-一가-\ud7ff]+",
        r"\p{N}+",
    ),
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
    "/!\n\r",  # what follows punctuation: line ends, and in o200k slashes too
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
