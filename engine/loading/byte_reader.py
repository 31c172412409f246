"""A cursor over the bytes of a model file that cannot be led outside them.

Every length comes from an untrusted file: it is a Python int (which cannot wrap) and is compared with the
bytes that are left before anything is read, allocated or looped over. A window of the file moves with the cursor,
so an index of any size costs no more memory than what is kept of it. The window begins small and grows: the parts of
a split model have an index of some hundred bytes each.
"""

import struct

from engine.errors import ModelFileError
from engine.loading.model_file import ModelFile

FIRST_WINDOW_BYTES = 1 << 13
WINDOW_BYTES = 1 << 20

_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")


def shown(name: str, limit: int = 80) -> str:
    """A name from a file as it may stand in a one-line message: quoted, escaped, and not too long."""
    return ascii(name if len(name) <= limit else name[:limit] + "...")


class ByteReader:
    """Reads little-endian values forward. `subject` says what is being read, for the error message."""

    def __init__(self, file: ModelFile) -> None:
        self.file = file
        self.size = file.size
        self.position = 0
        self.subject = "the header"
        self._window = b""
        self._window_start = 0
        self._next_window_bytes = FIRST_WINDOW_BYTES

    @property
    def remaining(self) -> int:
        return self.size - self.position

    def error(self, problem: str, at: int | None = None) -> ModelFileError:
        """The error to raise, one line: file, subject, byte offset (`at`, else the cursor's), problem."""
        offset = self.position if at is None else at
        return ModelFileError(f"{self.file.path}: {self.subject} at byte {offset}: {problem}")

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

    def upcoming(self, n_bytes: int) -> bytes:
        """The next n_bytes and what else is at hand after them; at the end of the file fewer. Moves no cursor."""
        start = self._cover(min(n_bytes, self.remaining))
        return self._window[start:]

    def take(self, n_bytes: int, what: str) -> bytes:
        self.require(n_bytes, what)
        start = self._cover(n_bytes)
        self.position += n_bytes
        return self._window[start : start + n_bytes]

    def unpack(self, layout: struct.Struct, what: str) -> int | float | bool:
        """One value of a struct layout with one field."""
        self.require(layout.size, what)
        start = self._cover(layout.size)
        (value,) = layout.unpack_from(self._window, start)
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

    def _cover(self, n_bytes: int) -> int:
        """Have n_bytes from the cursor on, which the file holds, in the window; where in it they begin."""
        start = self.position - self._window_start
        if start + n_bytes > len(self._window):
            n_read = min(max(n_bytes, self._next_window_bytes), self.remaining)
            self._next_window_bytes = min(4 * self._next_window_bytes, WINDOW_BYTES)
            self._window = self.file.read(self.position, n_read).tobytes()
            self._window_start, start = self.position, 0
        return start
