"""Typed look-ups in GGUF metadata: each says which key is wrong, what it holds and what would do."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.errors import ModelFileError

if TYPE_CHECKING:
    from engine.loading.gguf_index import Metadata


class MetadataReader:
    """The keys of one architecture. Names are given without the architecture's prefix.

    `unread` tells which of a file's keys nobody has asked for.
    """

    def __init__(self, path: Path, metadata: "Metadata", prefix: str, n_tokens: int | None = None) -> None:
        """n_tokens: of the vocabulary, as the file's token list or embedding matrix has them."""
        self.path = path
        self.metadata = metadata
        self.prefix = prefix
        self.n_tokens = n_tokens
        self._read: set[str] = set()

    def has(self, name: str) -> bool:
        return self.prefix + name in self.metadata

    def value(self, name: str, default: Any = None) -> Any:
        """As the file has it; the default where it has none."""
        self._read.add(name)
        return self.metadata.get(self.prefix + name, default)

    def unread(self) -> Iterator[tuple[str, Any]]:
        """(name, value) of the file's keys that were not asked for."""
        for key, value in self.metadata.items():
            name = key.removeprefix(self.prefix)
            if key.startswith(self.prefix) and name not in self._read:
                yield name, value

    def error(self, name: str, needed: str, default: float | None = None) -> ModelFileError:
        """default: what would hold for a missing key, by other keys of the file."""
        key = self.prefix + name
        if key not in self.metadata:
            would_be = "" if default is None else f" and would be {default} by the others"
            return ModelFileError(f"{self.path}: key {key!a} is missing{would_be}; {needed}")
        place = f"key {key!a} at byte {self.metadata.position_of[key]}"
        return ModelFileError(f"{self.path}: {place}: is {_brief(self.metadata[key])}; {needed}")

    def integer(self, name: str, low: int, high: int, default: int | None = None) -> int:
        """An integer in low..high. Without a default, a missing key is an error."""
        value = self.value(name, default)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise self.error(name, f"an integer from {low} to {high} is needed", default)
        return value

    def integer_of_layers(
        self, name: str, n_layer: int, low: int, high: int, default: int | None = None
    ) -> int:
        """An integer in low..high that holds for every layer: one number, or an array that gives it n_layer times."""
        values = self.value(name)
        if not isinstance(values, np.ndarray | list):
            return self.integer(name, low, high, default)
        if not isinstance(values, np.ndarray) or values.dtype.kind not in "iu" or len(values) != n_layer:
            raise self.error(name, f"an integer, or {n_layer} of them (block_count), are needed")
        least, most = int(values.min()), int(values.max())
        if least != most:
            raise self.error(
                name,
                f"its values go from {least} to {most}, and this build runs models whose layers are all of one size",
            )
        if not low <= least <= high:
            raise self.error(name, f"each value is {least}; integers from {low} to {high} are needed")
        return least

    def number(self, name: str, low: float, high: float, default: float | None = None) -> float:
        """A finite number in low..high. Without a default, a missing key is an error."""
        value = self.value(name, default)
        known = isinstance(value, int | float) and not isinstance(value, bool)
        if not known or not math.isfinite(value) or not low <= value <= high:
            raise self.error(name, f"a number from {low:g} to {high:g} is needed", default)
        return float(value)

    def boolean(self, name: str, default: bool | None = None) -> bool:
        """True or false. Without a default, a missing key is an error."""
        value = self.value(name, default)
        if not isinstance(value, bool):
            raise self.error(name, "true or false is needed", default)
        return value

    def text(self, name: str, allowed: tuple[str, ...], default: str) -> str:
        value = self.value(name, default)
        if not isinstance(value, str) or value not in allowed:
            raise self.error(name, f"this build knows {', '.join(allowed)}")
        return value


def _brief(value: Any) -> str:
    if isinstance(value, list | np.ndarray):
        return f"an array of {len(value)}"
    text = ascii(value)
    return text if len(text) <= 60 else text[:60] + "..."
