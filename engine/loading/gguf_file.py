"""A GGUF file's index, read without trusting a byte of it, and its tensors' bytes as views of a mapping.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3, little endian.
Why not the `gguf` package: it hangs on a declared length of 2^63, accepts overlapping and truncated tensors,
and refuses a file as a whole for one tensor type it does not know, which every KT type is.

The mapping lives as long as the load. Backends copy what they keep, `close` proves it (a view that is left
is our bug), and a file that is truncated or replaced under a running server harms nobody.
"""

import contextlib
import mmap
import os
import stat
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from engine.errors import ModelFileError
from engine.loading.byte_reader import ByteReader, shown
from engine.loading.gguf_index import TensorInfo, read_index
from kernels.quant_tensor import QuantType


class GGUFFile:
    """An open model file: `metadata` by key, `tensors` by name, in file order."""

    def __init__(
        self,
        path: Path,
        data: mmap.mmap,
        metadata: dict[str, Any],
        tensors: dict[str, TensorInfo],
        alignment: int,
    ) -> None:
        self.path = path
        self.size = len(data)
        self.metadata = metadata
        self.tensors = tensors
        self.alignment = alignment
        self._data = data

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> "GGUFFile":
        """Read and check the whole index. Raises ModelFileError, one line, for whatever is wrong."""
        path = Path(path)
        data = _map_file(path)
        try:
            metadata, tensors, alignment = read_index(ByteReader(path, data))
        except BaseException:
            data.close()
            raise
        return cls(path, data, metadata, tensors, alignment)

    def tensor_bytes(self, name: str, as_type: QuantType | None = None) -> np.ndarray:
        """The tensor's bytes, uint8, a read-only view that must be gone before `close`.

        as_type: a type of the same id with another row header (IQ4_KT_V1). Raises ModelFileError where its
        bytes do not fit before the next tensor.
        """
        info = self.tensors[name]
        quant_type = as_type or info.type
        nbytes = quant_type.row_bytes(info.shape[0]) * info.n_rows
        if nbytes > info.space:
            raise ModelFileError(
                f"{self.path}: tensor {shown(name)} at byte {info.offset}: as {quant_type.name} it takes "
                f"{nbytes} bytes and there are {info.space} up to the next tensor or the end of the file"
            )
        return np.frombuffer(self._data, np.uint8, nbytes, info.offset)

    def check_unchanged(self) -> None:
        """Raises ModelFileError if the file on disk no longer has the size it was opened with."""
        size = self.path.stat().st_size
        if size != self.size:
            raise ModelFileError(
                f"{self.path}: went from {self.size} to {size} bytes while it was being loaded"
            )

    def close(self) -> None:
        """Unmap. Raises BufferError if someone still holds a view of a tensor."""
        self._data.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
            return
        with contextlib.suppress(BufferError):  # the traceback may hold a view; `error` is what must be seen
            self.close()


def _map_file(path: Path) -> mmap.mmap:
    try:
        with open(path, "rb", opener=_open_without_waiting) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ModelFileError(f"{path}: is not a regular file; a GGUF model file is needed")
            if status.st_size == 0:
                raise ModelFileError(f"{path}: is empty (0 bytes); a GGUF model file is needed")
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in the path
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ModelFileError(f"{ascii(str(path))[1:-1]}: cannot be read: {reason}") from None


def _open_without_waiting(path: str, flags: int) -> int:
    """A pipe with no writer would otherwise hold the open for ever."""
    return os.open(path, flags | os.O_NONBLOCK)
