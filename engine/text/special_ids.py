"""The ids of special tokens that a file's metadata names. One that points nowhere counts only where it is needed.

Converters write -1, 2^32 - 1 or the vocabulary's size for tokens that a model does not have. That is a note; it is an
error for a BOS or EOS that every text gets, and for an EOS if no other token ends an answer.
"""

from collections.abc import Mapping
from typing import Any

from engine.errors import ModelFileError
from engine.text.keys import PREFIX, shown

NAMES = ("bos", "eos", "eot", "eom", "unknown", "padding")
UNREAD_NAMES = ("seperator", "mask", "cls")  # GGUF spells it so; nothing here needs these tokens
NO_ID = (-1, (1 << 32) - 1)


def read_special_ids(
    metadata: Mapping[str, Any], n_vocab: int, defaults: Mapping[str, int]
) -> tuple[dict[str, int | None], list[str]]:
    """The id of each of NAMES, None where the file has one that points nowhere; and the notes on these.

    defaults: the ids of names that the file leaves out; None for the others.
    Raises ModelFileError for a value that is no integer.
    """
    ids = {name: _read(metadata, name, n_vocab, defaults.get(name)) for name in NAMES}
    pointless = [why for name in (*NAMES, *UNREAD_NAMES) if (why := points_nowhere(metadata, name, n_vocab))]
    return ids, [f"{why}; the token counts as none" for why in pointless]


def points_nowhere(metadata: Mapping[str, Any], name: str, n_vocab: int) -> str | None:
    """What is wrong with an id outside the vocabulary; None where the file has none or a good one."""
    value = metadata.get(_key(name))
    if value is None or (_is_integer(value) and 0 <= int(value) < n_vocab):
        return None
    return f"{_key(name)} is {shown(value)}; ids go from 0 to {n_vocab - 1}"


def require_id(metadata: Mapping[str, Any], name: str, token_id: int | None, n_vocab: int) -> None:
    """Raises ModelFileError if every text gets this token and there is none."""
    if token_id is None:
        why = points_nowhere(metadata, name, n_vocab)
        if why is not None:
            raise ModelFileError(f"{why}, but texts get that token: {PREFIX}add_{name}_token")
        raise ModelFileError(f"{PREFIX}add_{name}_token is true but {_key(name)} is missing")


def require_some_end(metadata: Mapping[str, Any], end_ids: frozenset[int], n_vocab: int) -> None:
    """Raises ModelFileError if the file names an EOS outside the vocabulary and no other token ends answers."""
    why = points_nowhere(metadata, "eos", n_vocab)
    if why and not end_ids and int(metadata[_key("eos")]) not in NO_ID:
        raise ModelFileError(f"{why}; no other token ends an answer")


def _read(metadata: Mapping[str, Any], name: str, n_vocab: int, default: int | None) -> int | None:
    value = metadata.get(_key(name))
    if value is None:
        return default
    if not _is_integer(value):
        raise ModelFileError(f"{points_nowhere(metadata, name, n_vocab)}")
    return int(value) if 0 <= int(value) < n_vocab else None


def _key(name: str) -> str:
    return f"{PREFIX}{name}_token_id"


def _is_integer(value: Any) -> bool:
    return not isinstance(value, bool) and hasattr(value, "__index__")
