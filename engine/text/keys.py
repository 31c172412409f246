"""The tokenizer's keys in a GGUF file's metadata: how one is read, and shown in an error."""

from collections.abc import Mapping
from typing import Any

from engine.errors import ModelFileError

PREFIX = "tokenizer.ggml."
TEMPLATE_KEY = "tokenizer.chat_template"


def flag(metadata: Mapping[str, Any], name: str, default: bool) -> bool:
    """The boolean under tokenizer.ggml.NAME."""
    value = metadata.get(PREFIX + name, default)
    if value not in (True, False):
        raise ModelFileError(f"{PREFIX}{name} is {shown(value)}; expected true or false")
    return bool(value)


def shown(value: object) -> str:
    """At most 40 printable ASCII characters, so that a message stays one line."""
    text = ascii(value)
    return text if len(text) <= 40 else text[:37] + "..."
