"""Byte-level BPE (GPT-2's): bytes written as printable characters, merged in the order of a list.

The merging is the tokenizers library's, in O(n log n) for a piece. Its `encode` holds the interpreter's lock for as
long as it works; `encode_batch_fast` gives it away, also for a batch of one (docs/logbook.md).
Only normal tokens can come of it, so no text spells a control token, whatever the file's merges say.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from tokenizers import Regex, Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, Split
from tokenizers.pre_tokenizers import Sequence as InTurn

from engine.errors import ModelFileError
from engine.text.keys import PREFIX, shown
from engine.text.pre_tokenizers import PRE_TOKENIZERS, PreTokenizer
from engine.text.ranked_merges import merges_by_rank
from engine.text.token_kind import TokenKind
from engine.text.vocabulary import Vocabulary

# Falcon and StarCoder have no tokens for some of these: most control characters, and the first bytes of
# characters beyond plane 3. Without any other, ordinary texts could not be encoded.
DISPENSABLE = frozenset({*range(0x20), 0x7F, *range(0xF1, 0xF5)} - set(b"\t\n\r"))
NEVER_IN_UTF8 = frozenset({0xC0, 0xC1, *range(0xF5, 0x100)})


def byte_alphabet() -> list[str]:
    """The character that stands for each byte: itself where printable in Latin-1, else U+0100 onwards."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    stand_ins = map(chr, range(0x100, 0x200))
    return [chr(byte) if byte in printable else next(stand_ins) for byte in range(256)]


ALPHABET = byte_alphabet()
_BYTE_OF = {character: byte for byte, character in enumerate(ALPHABET)}


def find_pre_tokenizer(metadata: Mapping[str, Any]) -> PreTokenizer:
    """The family that tokenizer.ggml.pre names. Raises ModelFileError for one this build does not know."""
    name = metadata.get(PREFIX + "pre", "default")
    if not isinstance(name, str) or name not in PRE_TOKENIZERS:
        raise ModelFileError(
            f"{PREFIX}pre is {shown(name)}; known pre-tokenizers: {', '.join(PRE_TOKENIZERS)}"
        )
    return PRE_TOKENIZERS[name]


class BpeEncoder:
    """Plain text -> token ids. Knows nothing of special tokens.

    A byte that has no token (`missing_bytes`) is left out, as it is by the library and by llama.cpp.
    """

    space = " "
    # No family has a piece with white space after such a letter (pre_tokenizers.py).
    boundary = re.compile(r"[\s](?<=[A-Za-z\u4E00-\u9FA5]\s)")

    def __init__(self, vocabulary: Vocabulary, merges: Sequence[str] | None, family: PreTokenizer) -> None:
        """merges: None where the order of the tokens stands for them (ranked_merges.py).

        Raises ModelFileError for merges of unknown tokens and for a vocabulary without a common byte.
        """
        normal = (i for i, kind in enumerate(vocabulary.kinds) if kind is TokenKind.NORMAL)
        ids = {text: i for i in normal if (text := vocabulary.texts[i])}
        self.missing_bytes = _missing_bytes(ids)
        pairs = merges_by_rank(ids) if merges is None else _pairs(merges, ids, set(vocabulary.texts))
        self._tokenizer = Tokenizer(BPE(ids, pairs, ignore_merges=family.ignore_merges))
        self._tokenizer.pre_tokenizer = InTurn(
            [Split(Regex(pattern), "isolated") for pattern in family.splits]
            + [ByteLevel(add_prefix_space=False, use_regex=False)]
        )

    def encode(self, text: str) -> list[int]:
        return self._tokenizer.encode_batch_fast([text], add_special_tokens=False)[0].ids

    def bytes_of(self, text: str, kind: TokenKind) -> bytes:
        """What a token that stands for text adds to it. One that was added after training is literal."""
        if kind is TokenKind.UNUSED:  # padding of the embedding matrix
            return b""
        if kind is TokenKind.NORMAL and all(character in _BYTE_OF for character in text):
            return bytes(_BYTE_OF[character] for character in text)
        return text.encode("utf-8")


def _missing_bytes(ids: Mapping[str, int]) -> bytes:
    """The bytes of UTF-8 that have no token, where a vocabulary can do without them."""
    absent = [b for b, character in enumerate(ALPHABET) if character not in ids and b not in NEVER_IN_UTF8]
    needed = [byte for byte in absent if byte not in DISPENSABLE]
    if needed:
        raise ModelFileError(
            f"{PREFIX}tokens: no token for byte 0x{needed[0]:02X} ({len(needed)} such bytes), "
            "so that ordinary texts could not be encoded"
        )
    return bytes(absent)


def _pairs(merges: Sequence[str], ids: Mapping[str, int], known: set[str]) -> list[tuple[str, str]]:
    """The merges as pairs, best first; of a repeated one the first counts. Those that lead to a token which
    is not normal are passed over: no text may become it."""
    pairs: dict[tuple[str, str], None] = {}
    for index, merge in enumerate(merges):
        left, _, right = merge.partition(" ")
        if left in ids and right in ids and left + right in ids:
            pairs[left, right] = None
        elif not (left in known and right in known and left + right in known and left and right):
            raise ModelFileError(
                f"{PREFIX}merges[{index}] is {shown(merge)}; expected two tokens with a space between them "
                "that make a third"
            )
    return list(pairs)
