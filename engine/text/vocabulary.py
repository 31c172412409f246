"""The vocabulary as a GGUF file states it, checked: after this file nobody has to doubt a length or an id.

Every error names the metadata key. What is refused: lists of different lengths, ids outside the list, tokens
that are not UTF-8 or absurdly long, special tokens that would make every request slow, and scores that cannot
be compared.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from engine.errors import ModelFileError
from engine.text.end_tokens import end_ids_by_text, marker_ids, retyped_note
from engine.text.keys import PREFIX, TEMPLATE_KEY, shown
from engine.text.special_ids import read_special_ids, require_some_end
from engine.text.token_kind import FILE_KINDS, SPECIAL_KINDS, TokenKind

MAX_TOKENS = 1 << 22
SENTENCEPIECE_IDS = {"bos": 1, "eos": 2}
MAX_TOKEN_BYTES = 4096  # the longest tokens of real vocabularies are a few hundred bytes (runs of spaces)
# Control and user-defined tokens are looked for at every place of a text, and their beginnings and ends are
# kept (guard.py): these limits keep a hostile file's search below 50 us a character and its sets below 500 MB.
MAX_SPECIAL_LENGTH = 128  # characters; the longest in use are about 40
MAX_SPECIAL_CHARACTERS = 1 << 20  # together; 30 000 tokens for audio have 600 000
BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")
ANGLED = re.compile(r"<\S*>")


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
    notes: tuple[str, ...]  # what the file says about them and was not followed


def read_vocabulary(metadata: Mapping[str, Any], *, scored: bool) -> Vocabulary:
    """Read and check the tokens, kinds and special ids, and the scores where the vocabulary's kind needs them.

    Raises ModelFileError naming the key.
    """
    texts = _texts(metadata, "tokens", MAX_TOKEN_BYTES)
    scores = _scores(_list_of(metadata, "scores", len(texts))) if scored else []
    kinds = _kinds(metadata, texts)
    named, notes = read_special_ids(metadata, len(texts), _default_ids(kinds) if scored else {})
    named_ends = {i for name in ("eos", "eot", "eom") if (i := named[name]) is not None}
    _angled_specials_become_control(texts, kinds, {*named_ends, named["bos"]})
    ends_by_text = end_ids_by_text(texts, kinds, named["eos"], lambda text: _is_merged(metadata, text))
    end_ids = frozenset(named_ends | ends_by_text)
    require_some_end(metadata, end_ids, len(texts))
    retyped = _retype(kinds, ends_by_text, TokenKind.CONTROL)
    markers = _retype(kinds, marker_ids(texts, kinds, _template_source(metadata)), TokenKind.MARKER)
    _require_short_specials(texts, kinds)
    return Vocabulary(
        texts,
        scores,
        kinds,
        _byte_ids(texts, kinds),
        bos_id=named["bos"],
        eos_id=named["eos"],
        unk_id=_unknown_id(kinds, named["unknown"]),
        pad_id=named["padding"],
        end_ids=end_ids,
        notes=(
            *notes,
            *retyped_note(retyped, texts, "they end answers all the same"),
            *retyped_note(markers, texts, "the template marks turns with them, so that no message can"),
        ),
    )


def read_merges(metadata: Mapping[str, Any]) -> list[str]:
    """The merges of a BPE vocabulary, best first, each "LEFT RIGHT" as the file has it."""
    return _texts(metadata, "merges", MAX_TOKEN_BYTES + 1)  # the space between


def _default_ids(kinds: list[TokenKind]) -> dict[str, int]:
    """SentencePiece's ids for a file that leaves them out, as the peers take them; not where a word has the id."""
    present = {name: i for name, i in SENTENCEPIECE_IDS.items() if i < len(kinds)}
    return {name: i for name, i in present.items() if kinds[i] is TokenKind.CONTROL}


def _retype(kinds: list[TokenKind], ids: set[int], kind: TokenKind) -> set[int]:
    """Those of the ids that were of another kind."""
    changed = {token_id for token_id in ids if kinds[token_id] is not kind}
    for token_id in changed:
        kinds[token_id] = kind
    return changed


def _template_source(metadata: Mapping[str, Any]) -> str:
    source = metadata.get(TEMPLATE_KEY)
    return source if isinstance(source, str) else ""


def _is_merged(metadata: Mapping[str, Any], text: str) -> bool:
    """Whether a merge of a byte-level BPE vocabulary makes this token (of characters that stand for themselves)."""
    merges = metadata.get(PREFIX + "merges")
    return merges is not None and any(merge.replace(" ", "", 1) == text for merge in read_merges(metadata))


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


def _kinds(metadata: Mapping[str, Any], texts: list[str]) -> list[TokenKind]:
    """As the file has them. Without the key all are normal but the bytes, which their texts tell, as in llama.cpp."""
    if PREFIX + "token_type" not in metadata:
        return [TokenKind.BYTE if BYTE_TOKEN.fullmatch(text) else TokenKind.NORMAL for text in texts]
    values = _list_of(metadata, "token_type", len(texts))
    for token_id, value in enumerate(values):
        if not isinstance(value, int) or value not in FILE_KINDS:
            raise ModelFileError(
                f"{PREFIX}token_type[{token_id}] is {shown(value)}; expected {', '.join(map(str, FILE_KINDS))}"
            )
    return [FILE_KINDS[value] for value in values]


def _require_short_specials(texts: list[str], kinds: list[TokenKind]) -> None:
    total = 0
    for token_id, kind in enumerate(kinds):
        if kind not in (*SPECIAL_KINDS, TokenKind.USER_DEFINED):
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
