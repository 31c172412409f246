"""One file of a model, read at offsets.

Why not mmap: a file that is truncated while it is mapped ends the process with SIGBUS. Here it is a ModelFileError,
and once a model is loaded nothing of the file is held, so that whatever happens to it then harms nobody.
Published models come in up to 1810 parts and a process may often open 1024 files, so the parts of a split model are
closed once their index is read; each later read opens its part again and refuses it if it is another file by then.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import numpy as np

from engine.errors import ModelFileError


class ModelFile:
    """Untrusted bytes: `read` gives all that was asked for or raises ModelFileError."""

    def __init__(self, path: Path, descriptor: int, status: os.stat_result) -> None:
        self.path = path
        self.size = status.st_size
        self._state = _state(status)
        self._held: int | None = descriptor

    @classmethod
    def open(cls, path: Path) -> Self:
        """Raises ModelFileError for what is missing, unreadable, empty or no regular file."""
        descriptor = _open(path)
        status = os.fstat(descriptor)
        try:
            _require_content(path, status)
        except ModelFileError:
            os.close(descriptor)
            raise
        return cls(path, descriptor, status)

    def read(self, offset: int, n_bytes: int) -> np.ndarray:
        """uint8 [n_bytes] in memory of its own; the caller has seen to it that they are inside the file."""
        out = np.empty(n_bytes, np.uint8)
        done = 0
        with self._descriptor() as descriptor:
            while done < n_bytes:  # one call of the system gives at most 2 GiB
                try:
                    n_read = os.preadv(descriptor, [out[done:].data], offset + done)
                except OSError as error:
                    raise ModelFileError(
                        f"{self.path}: cannot be read at byte {offset + done}: {_reason(error)}"
                    ) from None
                if n_read == 0:
                    raise ModelFileError(
                        f"{self.path}: byte {offset + done} is gone, the file had {self.size} when it was opened; "
                        "it was truncated while it was being loaded"
                    )
                done += n_read
        return out

    def check_unchanged(self) -> None:
        """Raises ModelFileError if the file was written to, or another took its place, since it was opened."""
        with self._descriptor() as descriptor:
            self._require_same(os.fstat(descriptor))

    def close(self) -> None:
        """Hold the file open no longer; a later read opens it for as long as it takes."""
        if self._held is not None:
            os.close(self._held)
            self._held = None

    @contextmanager
    def _descriptor(self) -> Iterator[int]:
        if self._held is not None:
            yield self._held
            return
        descriptor = _open(self.path)
        try:
            self._require_same(os.fstat(descriptor))
            yield descriptor
        finally:
            os.close(descriptor)

    def _require_same(self, status: os.stat_result) -> None:
        if _state(status) != self._state:
            raise ModelFileError(
                f"{self.path}: was written to while it was being loaded "
                f"({self.size} bytes when it was opened, {status.st_size} now); load it again when it is whole"
            )


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe would hold the open
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in the path
        raise ModelFileError(f"{ascii(str(path))[1:-1]}: cannot be read: {_reason(error)}") from None


def _require_content(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise ModelFileError(f"{path}: is not a regular file; a GGUF model file is needed")
    if status.st_size == 0:
        raise ModelFileError(f"{path}: is empty (0 bytes); a GGUF model file is needed")


def _state(status: os.stat_result) -> tuple[int, ...]:
    """What differs when a file has been written to or replaced by another."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _reason(error: OSError | ValueError) -> str:
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error)
