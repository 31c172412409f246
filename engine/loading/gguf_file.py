"""A model's GGUF index, read without trusting a byte of it, and its tensors' bytes; one file or all parts of a split.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3, little endian.
Why not the `gguf` package: it hangs on a declared length of 2^63, accepts overlapping and truncated tensors,
and refuses a file as a whole for one tensor type it does not know, which every KT type is.
"""

import os
from contextlib import ExitStack, closing
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from engine.errors import ModelFileError
from engine.loading.byte_reader import shown
from engine.loading.gguf_index import TensorInfo, read_index
from engine.loading.gguf_split import PartsJoined, other_parts, stem_of
from engine.loading.model_file import ModelFile
from kernels.quant_tensor import QuantType


class GGUFFile:
    """An open model: `metadata` by key, `tensors` by name, in file order. path is that of the (first) file."""

    def __init__(self, model: PartsJoined) -> None:
        """Owns the parts' files from here on."""
        self.path = model.first.file.path
        self.name = stem_of(self.path)
        self.metadata = model.first.metadata
        self.tensors: dict[str, TensorInfo] = model.tensors
        self.files = model.files
        self.size = sum(file.size for file in self.files)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> "GGUFFile":
        """Read and check the whole index, of all parts. Raises ModelFileError, one line, for whatever is wrong.

        A file alone stays open until `close`. Of a split model no part does: each is opened when it is read.
        """
        with ExitStack() as files:
            first = ModelFile.open(Path(path))
            files.callback(first.close)
            index = read_index(first)
            others, model = other_parts(index), PartsJoined(index)
            for other in others:
                first.close()
                with closing(ModelFile.open(other)) as file:
                    model.add(read_index(file))
            model.check_complete()
            files.pop_all()
            return cls(model)

    def tensor_bytes(self, name: str, as_type: QuantType | None = None) -> np.ndarray:
        """The tensor's bytes, uint8.

        as_type: a type of the same id with another row header (IQ4_KT_V1). Raises ModelFileError where its
        bytes do not fit before the next tensor, or where the file has become shorter.
        """
        info = self.tensors[name]
        quant_type = as_type or info.type
        nbytes = quant_type.matrix_bytes(info.n_rows, info.shape[0])
        if nbytes > info.space:
            raise ModelFileError(
                f"{info.file.path}: tensor {shown(name)} at byte {info.offset}: as {quant_type.name} it takes "
                f"{nbytes} bytes and there are {info.space} up to the next tensor or the end of the file"
            )
        return info.file.read(info.offset, nbytes)

    def tensor_row(self, name: str, row: int) -> np.ndarray:
        """The bytes of one row, uint8, as the type of its GGUF id has it; rows must not be interleaved."""
        info = self.tensors[name]
        row_bytes = info.type.row_bytes(info.shape[0])
        return info.file.read(info.offset + row * row_bytes, row_bytes)

    def check_unchanged(self) -> None:
        """Raises ModelFileError if a file was written to since it was opened."""
        for file in self.files:
            file.check_unchanged()

    def close(self) -> None:
        for file in self.files:
            file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
