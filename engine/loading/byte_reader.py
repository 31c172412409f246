"""A cursor over the bytes of a model file that cannot be led outside them.

Every length comes from an untrusted file: it is a Python int (which cannot wrap) and is compared with the
bytes that are left before anything is read, allocated or looped over.
"""

import mmap
import struct
from pathlib import Path

from engine.errors import ModelFileError

_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")


def shown(name: str, limit: int = 80) -> str:
    """A name from a file as it may stand in a one-line message: quoted, escaped, and not too long."""
    return ascii(name if len(name) <= limit else name[:limit] + "...")


class ByteReader:
    """Reads little-endian values forward. `subject` says what is being read, for the error message."""

    def __init__(self, path: Path, data: mmap.mmap) -> None:
        self.path = path
        self.data = data
        self.size = len(data)
        self.position = 0
        self.subject = "the header"

    @property
    def remaining(self) -> int:
        return self.size - self.position

    def error(self, problem: str, at: int | None = None) -> ModelFileError:
        """The error to raise, one line: file, subject, byte offset (`at`, else the cursor's), problem."""
        offset = self.position if at is None else at
        return ModelFileError(f"{self.path}: {self.subject} at byte {offset}: {problem}")

    def require(self, n_bytes: int, what: str) -> None:
        """Raises ModelFileError unless n_bytes more bytes are there."""
        if n_bytes > self.remaining:
            raise self.error(
                f"{what} takes {n_bytes} bytes and the file has {self.remaining} left; "
                f"it is damaged or was not copied whole (it has {self.size} bytes)"
            )

    def require_items(self, count: int, least_bytes_each: int, what: str) -> None:
        """Raises ModelFileError where `count` items of at least that size cannot be in what is left."""
        if count * least_bytes_each > self.remaining:
            raise self.error(
                f"{count} {what} are declared, which take at least {count * least_bytes_each} bytes, "
                f"and the file has {self.remaining} left; it is damaged or was not copied whole"
            )

    def take(self, n_bytes: int, what: str) -> bytes:
        self.require(n_bytes, what)
        start = self.position
        self.position += n_bytes
        return self.data[start : self.position]

    def unpack(self, layout: struct.Struct, what: str) -> int | float | bool:
        """One value of a struct layout with one field."""
        self.require(layout.size, what)
        (value,) = layout.unpack_from(self.data, self.position)
        self.position += layout.size
        return value

    def u32(self, what: str) -> int:
        return int(self.unpack(_U32, what))

    def u64(self, what: str) -> int:
        return int(self.unpack(_U64, what))

    def name(self, what: str, max_bytes: int) -> str:
        """A length-prefixed UTF-8 name of 1 to max_bytes bytes."""
        start = self.position
        n_bytes = self.u64(f"the length of {what}")
        if not 1 <= n_bytes <= max_bytes:
            raise self.error(f"{what} has {n_bytes} bytes; 1 to {max_bytes} are allowed", start)
        raw = self.take(n_bytes, what)
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            raise self.error(f"{what} {raw[:40]!r} is not UTF-8", start) from None
