r"""How each family of byte-level BPE cuts a text before merging: the table behind tokenizer.ggml.pre.

A vocabulary's merges were learned inside these pieces, so a wrong cut gives wrong ids. The patterns are the
published tokenizers' own, read by Oniguruma (in the tokenizers library); `splits` are applied in turn, each
to the pieces that the one before left, matches and what lies between them becoming pieces alike.

Three parts are written so that no text makes the search go back over what it has passed. Their matches are
those of the originals, which stand beside them and judge them in tests/engine/test_pre_tokenizers.py.
Oniguruma gives up after ten million steps back, which a run of spaces that fits into a request can reach, and
`\s+$` takes quadratic time.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class PreTokenizer:
    """One family. The defaults hold where a file's metadata is silent."""

    description: str
    splits: tuple[str, ...]
    ignore_merges: bool = False  # a piece that is a token is that token, whatever the merges make of it
    add_bos: bool = False
    ranked: bool = False  # ids are ranks, so that a file may leave the merges out (ranked_merges.py)


def _char_class(ranges: str) -> str:
    """Hexadecimal code points and ranges of them, as the inside of a character class."""
    return "".join("-".join(f"\\x{{{end}}}" for end in part.split("-")) for part in ranges.split())


_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_DIGIT = r"\p{N}"
_THREE_DIGITS = "[0-9][0-9][0-9]"
_UP_TO_THREE = r"\p{N}{1,3}"
_TO_LAST_NEWLINE = r"(?:[^\S\r\n]*+[\r\n]++)++"  # \s*[\r\n]+
_CONTRACTION = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_SPACES = _TO_LAST_NEWLINE + r"|\s+(?!\S)|\s+"


def _tiktoken(digits: str, letters: str = r"\p{L}") -> str:
    """The pattern that came with cl100k, which Llama 3, Qwen and GLM share, except for digits and letters."""
    return (
        rf"{_CONTRACTION}|[^\r\n\p{{L}}\p{{N}}]?[{letters}]+|{digits}|"
        rf" ?[^\s{letters}\p{{N}}]+[\r\n]*|{_SPACES}"
    )


def _by_case(digits: str, punctuation: str, suffix: str = "", without: str = "") -> str:
    """Words that end where a capital follows a small letter, as in o200k, tekken and Kimi.

    suffix: what a word may end with; without: the letters that are in no word, as an intersection of classes.
    """
    upper, caseless = r"\p{Lu}\p{Lt}", r"\p{Lm}\p{Lo}\p{M}"
    small = rf"[\p{{Ll}}{caseless}{without}]"
    upper_then_lower = (  # [\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+
        rf"(?:[{upper}{caseless}{without}]*+\p{{Ll}}{small}*+|(?:[{upper}]*+[{caseless}{without}]++)++)"
    )
    return (
        rf"[^\r\n\p{{L}}\p{{N}}]?{upper_then_lower}{suffix}|"
        rf"[^\r\n\p{{L}}\p{{N}}]?[{upper}{caseless}{without}]+{small}*{suffix}|"
        rf"{digits}| ?[^\s\p{{L}}\p{{N}}]+{punctuation}|{_SPACES}"
    )


# Cased letters as of Unicode 11, without the mathematical ones.
_CASED = _char_class(
    "41-5A 61-7A B5 C0-D6 D8-F6 F8-1BA 1BC-1BF 1C4-293 295-2AF 370-373 376 377 37B-37D 37F 386 388-38A "
    "38C 38E-3A1 3A3-3F5 3F7-481 48A-52F 531-556 10A0-10C5 13A0-13F5 13F8-13FD 1C90-1CBA 1CBD-1CBF "
    "1D00-1D2B 1D6B-1D77 1D79-1D9A 1E00-1F15 1F18-1F1D 1F20-1F45 1F48-1F4D 1F50-1F57 1F59 1F5B 1F5D "
    "1F5F-1F7D 1F80-1FB4 1FB6-1FBC 1FBE 1FC2-1FC4 1FC6-1FCC 1FD0-1FD3 1FD6-1FDB 1FE0-1FEC 1FF2-1FF4 "
    "1FF6-1FFC 2102 2107 210A-2113 2115 2119-211D 2124 2126 2128 212A-212D 212F-2134 2139 213C-213F "
    "2145-2149 214E 2183 2184 2C00-2C7B 2C7E-2CE4 2CEB-2CEE 2CF2 2CF3 A640-A66D A680-A69B A722-A76F "
    "A771-A787 A78B-A78E AB70-ABBF FB00-FB06 FB13-FB17 FF21-FF3A FF41-FF5A 10400-1044F 104B0-104D3 "
    "104D8-104FB 10C80-10CB2 10CC0-10CF2 118A0-118DF 1E900-1E943"
)
_WIDE_PUNCTUATION = _char_class("FF01-FF0F FF1A-FF5E 2018-201F 3000-3002")
_HAN_AND_KANA = f"[{_char_class('4E00-9FA5 3040-309F 30A0-30FF')}]+"
_EASTERN = f"[{_char_class('4E00-9FA5 800-4E00 AC00-D7FF')}]+"

_LLAMA3 = PreTokenizer("Llama 3: tiktoken's, digits in threes", (_tiktoken(_UP_TO_THREE),), True, True)
_QWEN2 = PreTokenizer("Qwen2, 2.5 and 3, Ling: tiktoken's, digits one by one", (_tiktoken(_DIGIT),))
_QWEN35 = PreTokenizer("Qwen3.5 to 3.8: Qwen2's, marks being letters", (_tiktoken(_DIGIT, r"\p{L}\p{M}"),))
_O200K = PreTokenizer(
    "gpt-oss, Llama 4 and MiniMax-M2: o200k's words by case with their contractions, digits in threes",
    (_by_case(_UP_TO_THREE, r"[\r\n/]*", f"{_CONTRACTION}?"),),
)
_DEEPSEEK3 = PreTokenizer(
    "DeepSeek V3 and R1: numbers in threes, Han and kana, then words with marks and punctuation",
    (
        _UP_TO_THREE,
        _HAN_AND_KANA,
        r"[!-/:-@\[-`{-~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|" + _SPACES,
    ),
)
_KIMI = PreTokenizer(
    "Kimi-K2: runs of Han, then o200k's words without it, digits in threes",
    (r"\p{Han}+|" + _by_case(_UP_TO_THREE, r"[\r\n]*", f"{_CONTRACTION}?", r"&&[^\p{Han}]"),),
    ranked=True,
)
_BY_MERGES = PreTokenizer("Llama 3's, by the merges alone", _LLAMA3.splits)
_GPT2_FAMILY = PreTokenizer("GPT-2's words, numbers and runs of the rest", (_GPT2,))
_STARCODER = PreTokenizer("GPT-2's, digits one by one", (_DIGIT, _GPT2))
_DEFAULT = PreTokenizer(
    "what llama.cpp takes where a file names none: punctuation, GPT-2's, digits in threes",
    (r"[\p{P}$+<=>^~|]+", _GPT2, r"\p{N}+", _THREE_DIGITS),
)

#: tokenizer.ggml.pre -> how texts are cut.
PRE_TOKENIZERS: dict[str, PreTokenizer] = {
    "default": _DEFAULT,
    "llama-bpe": _LLAMA3,
    "llama3": _LLAMA3,
    "llama-v3": _LLAMA3,
    "falcon3": _LLAMA3,
    "smaug-bpe": _BY_MERGES,
    "glm4": _BY_MERGES,
    "chatglm-bpe": _BY_MERGES,
    "qwen2": _QWEN2,
    "deepseek-r1-qwen": _QWEN2,
    "megrez": _QWEN2,
    "bailingmoe": _QWEN2,
    "bailingmoe2": _QWEN2,
    "qwen35": _QWEN35,
    "gpt-4o": _O200K,
    "llama4": _O200K,
    "minimax-m2": _O200K,
    "kimi-k2": _KIMI,
    "deepseek-v3": _DEEPSEEK3,
    "tekken": PreTokenizer(
        "Mistral NeMo and Small: words by case, digits one by one",
        (_by_case(_DIGIT, r"[\r\n/]*"),),
        True,
        True,
    ),
    "deepseek-llm": PreTokenizer(
        "DeepSeek LLM: newlines, cased letters, punctuation, eastern scripts and numbers apart",
        (
            r"[\r\n]",
            rf"\s?[{_CASED}]+",
            rf"\s?[!-/:-~{_WIDE_PUNCTUATION}]+",
            r"(?<!\s)\s++\z",  # \s+$
            _EASTERN,
            r"\p{N}+",
        ),
    ),
    "deepseek-coder": PreTokenizer(
        "DeepSeek Coder: newlines, letters, punctuation, eastern scripts apart, digits one by one",
        (r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", _EASTERN, _DIGIT),
    ),
    "falcon": PreTokenizer(
        "Falcon: punctuation, GPT-2's, digits in threes", (r"[\p{P}$+<=>^~|`]+", _GPT2, _THREE_DIGITS)
    ),
    "starcoder": _STARCODER,
    "refact": _STARCODER,
    "smollm": _STARCODER,
    "gpt-2": _GPT2_FAMILY,
    "mpt": _GPT2_FAMILY,
}
