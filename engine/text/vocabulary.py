"""The vocabulary as a GGUF file states it, checked: after this file nobody has to doubt a length or an id.

Every error names the metadata key. What is refused: lists of different lengths, ids outside the list, tokens
that are not UTF-8 or absurdly long, special tokens that would make every request slow, and scores that cannot
be compared.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from engine.errors import ModelFileError

PREFIX = "tokenizer.ggml."
MAX_TOKENS = 1 << 22
MAX_TOKEN_BYTES = 4096  # the longest tokens of real vocabularies are a few hundred bytes (runs of spaces)
# Control and user-defined tokens are looked for at every place of a text, and their beginnings and ends are
# kept (guard.py): these limits keep a hostile file's search below 50 us a character and its sets below 500 MB.
MAX_SPECIAL_LENGTH = 128  # characters; the longest in use are about 40
MAX_SPECIAL_CHARACTERS = 1 << 20  # together; 30 000 tokens for audio have 600 000
BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")
ANGLED = re.compile(r"<\S*>")

# Control tokens with these texts end a turn, whether or not the metadata says so.
END_TEXTS = frozenset(
    {"</s>", "<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|end|>", "<|endoftext|>", "<|end_of_text|>"}
    | {"<end_of_turn>", "<end_of_utterance>", "<EOT>", "<｜end▁of▁sentence｜>", "<|return|>", "<|call|>"}
)


class TokenKind(IntEnum):
    """tokenizer.ggml.token_type, as SentencePiece numbers its pieces."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass(frozen=True)
class Vocabulary:
    """Tokens by id. Ids that the file does not give are None."""

    texts: list[str]
    scores: list[float]  # empty where merges are listed
    kinds: list[TokenKind]
    byte_ids: Mapping[int, int]  # byte value -> token id
    bos_id: int | None
    eos_id: int | None
    unk_id: int | None
    pad_id: int | None
    end_ids: frozenset[int]  # every end-of-generation id


def read_vocabulary(metadata: Mapping[str, Any], *, scored: bool) -> Vocabulary:
    """Read and check the tokens, kinds and special ids, and the scores where the vocabulary's kind needs them.

    Raises ModelFileError naming the key.
    """
    texts = _texts(metadata, "tokens", MAX_TOKEN_BYTES)
    scores = _scores(_list_of(metadata, "scores", len(texts))) if scored else []
    kinds = _kinds(_list_of(metadata, "token_type", len(texts)))
    _require_short_specials(texts, kinds)
    named = {
        name: special_id(metadata, f"{name}_token_id", len(texts))
        for name in ("bos", "eos", "eot", "eom", "unknown", "padding")
    }
    ends = {named[name] for name in ("eos", "eot", "eom")}
    added_ends = {i for i, k in enumerate(kinds) if k is TokenKind.USER_DEFINED and texts[i] in END_TEXTS}
    _angled_specials_become_control(texts, kinds, ends | {named["bos"]} | added_ends)
    by_text = {i for i, kind in enumerate(kinds) if kind is TokenKind.CONTROL and texts[i] in END_TEXTS}
    return Vocabulary(
        texts,
        scores,
        kinds,
        _byte_ids(texts, kinds),
        bos_id=named["bos"],
        eos_id=named["eos"],
        unk_id=_unknown_id(kinds, named["unknown"]),
        pad_id=named["padding"],
        end_ids=frozenset(i for i in ends | by_text if i is not None),
    )


def read_merges(metadata: Mapping[str, Any]) -> list[str]:
    """The merges of a BPE vocabulary, best first, each "LEFT RIGHT" as the file has it."""
    return _texts(metadata, "merges", MAX_TOKEN_BYTES + 1)  # the space between


def special_id(metadata: Mapping[str, Any], name: str, n_vocab: int) -> int | None:
    """The id under tokenizer.ggml.NAME, None when the file has none."""
    value = metadata.get(PREFIX + name)
    if value is None:
        return None
    if isinstance(value, bool) or not hasattr(value, "__index__") or not 0 <= int(value) < n_vocab:
        raise ModelFileError(f"{PREFIX}{name} is {shown(value)}; ids go from 0 to {n_vocab - 1}")
    return int(value)


def flag(metadata: Mapping[str, Any], name: str, default: bool) -> bool:
    """The boolean under tokenizer.ggml.NAME."""
    value = metadata.get(PREFIX + name, default)
    if value not in (True, False):
        raise ModelFileError(f"{PREFIX}{name} is {shown(value)}; expected true or false")
    return bool(value)


def _list_of(metadata: Mapping[str, Any], name: str, length: int | None = None) -> list:
    value = metadata.get(PREFIX + name)
    if value is None:
        raise ModelFileError(f"{PREFIX}{name} is missing; the vocabulary cannot be read without it")
    values = value.tolist() if hasattr(value, "tolist") else value
    if not isinstance(values, list | tuple):
        raise ModelFileError(f"{PREFIX}{name} is {shown(value)}; expected an array")
    if not 0 < len(values) <= MAX_TOKENS:
        raise ModelFileError(f"{PREFIX}{name} has {len(values)} entries; expected 1 to {MAX_TOKENS}")
    if length is not None and len(values) != length:
        raise ModelFileError(f"{PREFIX}{name} has {len(values)} entries but {PREFIX}tokens has {length}")
    return list(values)


def _texts(metadata: Mapping[str, Any], name: str, max_bytes: int) -> list[str]:
    texts = []
    for index, value in enumerate(_list_of(metadata, name)):
        try:
            raw = value.encode("utf-8") if isinstance(value, str) else bytes(memoryview(value))
            text = raw.decode("utf-8")
        except (UnicodeError, TypeError) as error:
            raise ModelFileError(f"{PREFIX}{name}[{index}] is not UTF-8 text") from error
        if len(raw) > max_bytes:
            raise ModelFileError(
                f"{PREFIX}{name}[{index}] is {len(raw)} bytes long; at most {max_bytes} are read"
            )
        texts.append(text)
    return texts


def _scores(values: list) -> list[float]:
    for token_id, value in enumerate(values):
        if not isinstance(value, int | float) or not math.isfinite(value):
            raise ModelFileError(f"{PREFIX}scores[{token_id}] is {shown(value)}; expected a finite number")
    return [float(value) for value in values]


def _kinds(values: list) -> list[TokenKind]:
    known = {int(kind): kind for kind in TokenKind}
    for token_id, value in enumerate(values):
        if not isinstance(value, int) or value not in known:
            raise ModelFileError(
                f"{PREFIX}token_type[{token_id}] is {shown(value)}; expected {', '.join(map(str, known))}"
            )
    return [known[value] for value in values]


def _require_short_specials(texts: list[str], kinds: list[TokenKind]) -> None:
    total = 0
    for token_id, kind in enumerate(kinds):
        if kind not in (TokenKind.CONTROL, TokenKind.USER_DEFINED):
            continue
        total += len(texts[token_id])
        if len(texts[token_id]) > MAX_SPECIAL_LENGTH:
            raise ModelFileError(
                f"{PREFIX}tokens[{token_id}] is a special token of {len(texts[token_id])} characters; "
                f"at most {MAX_SPECIAL_LENGTH} are searched for"
            )
    if total > MAX_SPECIAL_CHARACTERS:
        raise ModelFileError(
            f"{PREFIX}tokens: the special tokens have {total} characters together; at most "
            f"{MAX_SPECIAL_CHARACTERS} are searched for"
        )


def _angled_specials_become_control(texts: list[str], kinds: list[TokenKind], ids: set[int | None]) -> None:
    """Older converters call <s> or <|im_end|> normal or user-defined; as such, user text could spell it."""
    for token_id in ids:
        if token_id is not None and ANGLED.fullmatch(texts[token_id]):
            kinds[token_id] = TokenKind.CONTROL


def _byte_ids(texts: list[str], kinds: list[TokenKind]) -> dict[int, int]:
    byte_ids: dict[int, int] = {}
    for token_id, kind in enumerate(kinds):
        if kind is not TokenKind.BYTE:
            continue
        match = BYTE_TOKEN.fullmatch(texts[token_id])
        if match is None:
            raise ModelFileError(
                f"{PREFIX}tokens[{token_id}] is {shown(texts[token_id])}; byte tokens read <0x00> to <0xFF>"
            )
        byte_ids.setdefault(int(match[1], 16), token_id)
    return byte_ids


def _unknown_id(kinds: list[TokenKind], named: int | None) -> int | None:
    if named is not None:
        return named
    return next((i for i, kind in enumerate(kinds) if kind is TokenKind.UNKNOWN), None)


def shown(value: object) -> str:
    """At most 40 printable ASCII characters, so that a message stays one line."""
    text = ascii(value)
    return text if len(text) <= 40 else text[:37] + "..."
