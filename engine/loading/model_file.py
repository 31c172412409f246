"""One file of a model, open for reading at offsets.

Why not mmap: a file that is truncated while it is mapped ends the process with SIGBUS. Here it is a ModelFileError,
and once a model is loaded nothing of the file is held, so that whatever happens to it then harms nobody.
"""

import os
import stat
from pathlib import Path
from typing import Self

import numpy as np

from engine.errors import ModelFileError


class ModelFile:
    """Untrusted bytes: `read` gives all that was asked for or raises ModelFileError."""

    def __init__(self, path: Path, descriptor: int, status: os.stat_result) -> None:
        self.path = path
        self.size = status.st_size
        self._changed_ns = status.st_mtime_ns
        self._descriptor = descriptor

    @classmethod
    def open(cls, path: Path) -> Self:
        """Raises ModelFileError for what is missing, unreadable, empty or no regular file."""
        try:
            descriptor = os.open(
                path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
            )  # a pipe would hold the open
        except (OSError, ValueError) as error:  # ValueError: a NUL byte in the path
            raise ModelFileError(f"{ascii(str(path))[1:-1]}: cannot be read: {_reason(error)}") from None
        file = cls(path, descriptor, os.fstat(descriptor))
        try:
            file._require_content()
        except ModelFileError:
            file.close()
            raise
        return file

    def read(self, offset: int, n_bytes: int) -> np.ndarray:
        """uint8 [n_bytes] in memory of its own; the caller has seen to it that they are inside the file."""
        out = np.empty(n_bytes, np.uint8)
        done = 0
        while done < n_bytes:  # one call of the system gives at most 2 GiB
            try:
                n_read = os.preadv(self._descriptor, [out[done:].data], offset + done)
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
        """Raises ModelFileError if the file was written to since it was opened."""
        status = os.fstat(self._descriptor)
        if (status.st_size, status.st_mtime_ns) != (self.size, self._changed_ns):
            raise ModelFileError(
                f"{self.path}: was written to while it was being loaded "
                f"({self.size} bytes when it was opened, {status.st_size} now); load it again when it is whole"
            )

    def close(self) -> None:
        os.close(self._descriptor)

    def _require_content(self) -> None:
        if not stat.S_ISREG(os.fstat(self._descriptor).st_mode):
            raise ModelFileError(f"{self.path}: is not a regular file; a GGUF model file is needed")
        if self.size == 0:
            raise ModelFileError(f"{self.path}: is empty (0 bytes); a GGUF model file is needed")


def _reason(error: OSError | ValueError) -> str:
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error)
