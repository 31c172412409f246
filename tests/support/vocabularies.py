"""Small vocabularies made on the fly, and the shared real ones, as the metadata a GGUF reader gives."""

from functools import cache
from pathlib import Path
from typing import Any

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
Piece = tuple[str, float, int]  # text, score, kind

WORDS = (
    "▁t",
    "he",
    "▁the",
    "in",
    "▁in",
    "er",
    "▁a",
    "▁▁",
    "▁▁▁▁",
    "==",
    "====",
    "Hello",
    "▁Hello",
    "re",
    "▁re",
)


def spm_metadata(pieces: list[Piece], **keys: Any) -> dict[str, Any]:
    """Metadata of a `llama` vocabulary; keys are set under tokenizer.ggml, None removes one."""
    metadata: dict[str, Any] = {
        "model": "llama",
        "tokens": [text for text, _, _ in pieces],
        "scores": [score for _, score, _ in pieces],
        "token_type": [kind for _, _, kind in pieces],
        "bos_token_id": 1,
        "eos_token_id": 2,
    } | keys
    return {f"tokenizer.ggml.{name}": value for name, value in metadata.items() if value is not None}


def pieces_with(*more: Piece) -> list[Piece]:
    """<unk>, <s>, </s>, the 256 bytes, a few words with all steps towards them, then `more`."""
    pieces = [("<unk>", 0.0, UNKNOWN), ("<s>", 0.0, CONTROL), ("</s>", 0.0, CONTROL)]
    pieces += [(f"<0x{byte:02X}>", 0.0, BYTE) for byte in range(256)]
    steps = dict.fromkeys(word[:end] for word in WORDS for end in range(2, len(word) + 1))
    characters = dict.fromkeys("▁" + "".join(WORDS) + "abcdefghijklmnopqrstuvwxyz.,<>|/_")
    normal = [*steps, *characters]
    pieces += [(text, float(-rank), NORMAL) for rank, text in enumerate(normal)]
    return pieces + list(more)


@cache
def shared_metadata(path: Path) -> dict[str, Any]:
    """The tokenizer keys of a real file, read by the gguf package."""
    from gguf import GGUFReader

    reader = GGUFReader(path)
    return {name: f.contents() for name, f in reader.fields.items() if name.startswith("tokenizer.")}
