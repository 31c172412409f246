"""Small vocabularies made on the fly, and the shared real ones, as the metadata a GGUF reader gives."""

import random
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from engine.loading.gguf_file import GGUFFile
from engine.text.bpe import ALPHABET

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
BPE_WORDS = (
    "the",
    " the",
    "in",
    " in",
    " a",
    "er",
    "re",
    " re",
    "Hello",
    " Hello",
    "  ",
    "    ",
    "==",
    "é",
    "本",
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


def bpe_metadata(
    words: Iterable[str] = BPE_WORDS,
    more: Iterable[tuple[str, int]] = (
        ("<|endoftext|>", CONTROL),
        ("<|im_start|>", CONTROL),
        ("<|im_end|>", CONTROL),
    ),
    **keys: Any,
) -> dict[str, Any]:
    """Metadata of a `gpt2` vocabulary, qwen2's kind unless `pre` says otherwise.

    The 256 bytes, every step towards each word (a text; it is written in byte-level characters here), then
    `more` (text, kind) as it stands. bos and eos are the last of `more` unless keys say otherwise; None removes
    a key.
    """
    spelled = ["".join(ALPHABET[byte] for byte in word.encode()) for word in words]
    steps = dict.fromkeys(
        (word[: end - 1], word[end - 1]) for word in spelled for end in range(2, len(word) + 1)
    )
    normal = list(dict.fromkeys([*ALPHABET, *(left + right for left, right in steps)]))
    added = list(more)
    tokens = normal + [text for text, _ in added]
    metadata: dict[str, Any] = {
        "model": "gpt2",
        "pre": "qwen2",
        "tokens": tokens,
        "token_type": [NORMAL] * len(normal) + [kind for _, kind in added],
        "merges": [f"{left} {right}" for left, right in steps],
        "bos_token_id": len(tokens) - 1,
        "eos_token_id": len(tokens) - 1,
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
    """The tokenizer keys of a real file; test_gguf_file.py judges the reader."""
    with GGUFFile.open(path) as gguf:
        return {name: value for name, value in gguf.metadata.items() if name.startswith("tokenizer.")}


def random_texts(seed: int, words: Sequence[str], n: int) -> Iterator[str]:
    """Ordinary words, hostile runs of one character, and any code point."""
    rng = random.Random(seed)
    for _ in range(n):
        kind = rng.random()
        if kind < 0.4:
            yield "".join(rng.choice(words) for _ in range(rng.randrange(30)))
        elif kind < 0.7:
            yield "".join(
                rng.choice("ab =-_*#\n.éж本😁▁/<>") * rng.randrange(1, 30) for _ in range(rng.randrange(9))
            )
        else:
            ranges = [(1, 128), (128, 0xD800), (0xE000, 0x110000)]
            yield "".join(chr(rng.randrange(*rng.choice(ranges))) for _ in range(rng.randrange(40)))
