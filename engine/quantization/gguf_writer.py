"""Writes GGUF files: metadata and tensors whose bytes are ready.

The `gguf` package cannot: it knows no type with a row header. The pieces (string, key, tensor entry) are
public so that a test can put a wrong number in exactly one place.
"""

import struct
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kernels.quant_tensor import FILE_TYPES

UINT8, INT8, UINT16, INT16, UINT32, INT32, FLOAT32, BOOL, STRING, ARRAY, UINT64, INT64, FLOAT64 = range(13)
_LAYOUTS = {
    UINT8: "<B", INT8: "<b", UINT16: "<H", INT16: "<h", UINT32: "<I", INT32: "<i", FLOAT32: "<f", BOOL: "<?",
    UINT64: "<Q", INT64: "<q", FLOAT64: "<d",
}  # fmt: skip
_DTYPES = {"u1": UINT8, "i1": INT8, "u2": UINT16, "i2": INT16, "u4": UINT32, "i4": INT32, "f4": FLOAT32,
           "b1": BOOL, "u8": UINT64, "i8": INT64, "f8": FLOAT64}  # fmt: skip


class Typed(NamedTuple):
    """A metadata value with its GGUF type chosen, where the Python type would choose another."""

    value_type: int
    value: Any


class Tensor(NamedTuple):
    """A tensor as it goes into the file. shape in the file's order (row length first)."""

    name: str
    type_name: str
    shape: tuple[int, ...]
    data: bytes


class PlannedTensor(NamedTuple):
    """A tensor whose bytes are made when its place in the file is reached. shape in the file's order."""

    name: str
    type_name: str
    shape: tuple[int, ...]
    make: Callable[[], np.ndarray]  # uint8 [nbytes]

    @property
    def nbytes(self) -> int:
        n_in, n_rows = self.shape[0], int(np.prod(self.shape[1:]))
        return FILE_TYPES[self.type_name].matrix_bytes(n_rows, n_in)


def string(text: str | bytes) -> bytes:
    raw = text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape")
    return struct.pack("<Q", len(raw)) + raw


def value(item: Any) -> bytes:
    """Type and value: bool, int (uint32; int32 if negative), float32, str, list, numpy array."""
    if isinstance(item, Typed):
        return struct.pack("<I", item.value_type) + _payload(item.value_type, item.value)
    if isinstance(item, np.ndarray):
        head = struct.pack("<IIQ", ARRAY, _DTYPES[item.dtype.str[1:]], len(item))
        return head + item.astype(item.dtype.newbyteorder("<")).tobytes()
    if isinstance(item, list):
        kind = _kind(item[0]) if item else STRING
        head = struct.pack("<IIQ", ARRAY, kind, len(item))
        return head + b"".join(_payload(kind, x) for x in item)
    return struct.pack("<I", _kind(item)) + _payload(_kind(item), item)


def _kind(item: Any) -> int:
    if isinstance(item, bool):
        return BOOL
    if isinstance(item, int):
        return UINT32 if item >= 0 else INT32
    return FLOAT32 if isinstance(item, float) else STRING


def _payload(value_type: int, item: Any) -> bytes:
    return string(item) if value_type == STRING else struct.pack(_LAYOUTS[value_type], item)


def key(name: str | bytes, item: Any) -> bytes:
    return string(name) + value(item)


def tensor_entry(name: str | bytes, shape: Sequence[int], type_id: int, offset: int) -> bytes:
    dims = struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
    return string(name) + dims + struct.pack("<IQ", type_id, offset)


def header(n_tensors: int, n_keys: int, version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, n_tensors, n_keys)


def pad(data: bytes, alignment: int) -> bytes:
    return data + bytes(-len(data) % alignment)


def gguf_bytes(
    metadata: Mapping[str, Any], tensors: Sequence[Tensor] = (), *, version: int = 3, alignment: int = 32
) -> bytes:
    """A whole file. `metadata` must hold general.alignment itself where alignment is not 32."""
    sizes = [len(tensor.data) for tensor in tensors]
    index = _index(metadata, tensors, sizes, version, alignment)
    return index + b"".join(pad(tensor.data, alignment) for tensor in tensors)


def _index(
    metadata: Mapping[str, Any],
    tensors: Sequence[Tensor | PlannedTensor],
    sizes: Sequence[int],
    version: int,
    alignment: int,
) -> bytes:
    """Everything before the first tensor's bytes."""
    index = header(len(tensors), len(metadata), version)
    index += b"".join(key(name, item) for name, item in metadata.items())
    offset = 0
    for tensor, size in zip(tensors, sizes, strict=True):
        ggml_id = FILE_TYPES[tensor.type_name].ggml_id
        assert ggml_id is not None  # as of all FILE_TYPES
        index += tensor_entry(tensor.name, tensor.shape, ggml_id, offset)
        offset += size + -size % alignment
    return pad(index, alignment)


def write_gguf(
    path: Path, metadata: Mapping[str, Any], tensors: Sequence[Tensor] = (), **options: Any
) -> Path:
    """Options as gguf_bytes."""
    path.write_bytes(gguf_bytes(metadata, tensors, **options))
    return path


def write_gguf_by_tensor(
    path: Path,
    metadata: Mapping[str, Any],
    tensors: Sequence[PlannedTensor],
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """A file of any size, one tensor in memory at a time. progress: tensor bytes written, in all.

    Raises OSError; what was written by then stays.
    """
    alignment = 32
    sizes = [tensor.nbytes for tensor in tensors]
    done, in_all = 0, sum(sizes)
    with path.open("wb") as file:
        file.write(_index(metadata, tensors, sizes, 3, alignment))
        for tensor, size in zip(tensors, sizes, strict=True):
            data = tensor.make()
            assert data.nbytes == size, (tensor.name, data.nbytes, size)
            file.write(data.data)
            file.write(bytes(-size % alignment))
            done += size
            if progress is not None:
                progress(done, in_all)
    return path
