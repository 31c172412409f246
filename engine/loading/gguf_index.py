"""The index of a GGUF file: header, metadata, tensor entries, and where each tensor's bytes lie.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3, little endian.
"""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

from engine.loading.byte_reader import ByteReader, shown
from engine.loading.foreign_files import describe_foreign, describe_version
from engine.loading.gguf_types import FOREIGN_BLOCKS, describe_unread_type, foreign_blocks_fit
from engine.loading.gguf_values import read_value
from engine.loading.model_file import ModelFile
from kernels.quant_tensor import TYPES_BY_GGML_ID, QuantType

MAX_KEYS = 1 << 16
MAX_TENSORS = 1 << 17
MAX_KEY_BYTES = (1 << 16) - 1
MAX_TENSOR_NAME_BYTES = 128
MAX_DIM = 1 << 40
MAX_ALIGNMENT = 1 << 20
MAX_METADATA_BYTES = 1 << 27  # the largest real ones, 262 000 tokens with their merges, take a tenth
_LEAST_KEY_BYTES = 8 + 1 + 4 + 1  # length, one byte of name, value type, one byte of value
_LEAST_TENSOR_BYTES = 8 + 1 + 4 + 8 + 4 + 8  # length, name, dimension count, one dimension, type, offset


@dataclass(frozen=True)
class TensorInfo:
    """Where a tensor lies. nbytes is what its type and shape need; space, what lies up to the next tensor."""

    name: str
    ggml_type: int
    shape: tuple[int, ...]  # as in the file: the row length (ne0) first
    file: ModelFile  # the part that holds it, where the model is split
    offset: int  # from the start of the file
    nbytes: int
    space: int
    alignment: int  # of the tensors of this file

    @property
    def type(self) -> QuantType:
        return TYPES_BY_GGML_ID[self.ggml_type]

    @property
    def n_rows(self) -> int:
        return math.prod(self.shape[1:])


class _Entry(NamedTuple):
    """A tensor as its entry declares it, before its place is checked."""

    ggml_type: int
    shape: tuple[int, ...]
    data_offset: int  # from the start of the tensor data
    position: int  # of the entry in the file


class Metadata(dict[str, Any]):
    """Keys and their values; `position_of` a key is its byte offset in the file, for messages."""

    def __init__(self) -> None:
        super().__init__()
        self.position_of: dict[str, int] = {}


class Index(NamedTuple):
    """What one file says it holds."""

    file: ModelFile
    metadata: Metadata
    tensors: dict[str, TensorInfo]  # by name, in file order


def read_index(file: ModelFile) -> Index:
    """The index, all of it checked. Raises ModelFileError."""
    reader = ByteReader(file)
    n_tensors, n_keys = _read_header(reader)
    metadata = _read_metadata(reader, n_keys)
    alignment = _alignment(reader, metadata)
    tensors = _place_tensors(reader, _read_tensor_entries(reader, n_tensors), alignment)
    return Index(file, metadata, tensors)


def _read_header(reader: ByteReader) -> tuple[int, int]:
    """(number of tensors, number of metadata keys), both small enough for the bytes that are left."""
    head = reader.upcoming(64)
    if head[:4] != b"GGUF":
        raise reader.error(describe_foreign(head))
    reader.position = 4
    version = reader.u32("the version")
    if version not in (2, 3):
        raise reader.error(describe_version(version), 4)
    n_tensors, n_keys = reader.u64("the number of tensors"), reader.u64("the number of metadata keys")
    for count, most, what in ((n_tensors, MAX_TENSORS, "tensors"), (n_keys, MAX_KEYS, "metadata keys")):
        if count > most:
            raise reader.error(f"{count} {what} are declared; at most {most} are allowed", 8)
    reader.require_items(n_keys, _LEAST_KEY_BYTES, "metadata keys")
    reader.require_items(n_tensors, _LEAST_TENSOR_BYTES, "tensors")
    return n_tensors, n_keys


def _read_metadata(reader: ByteReader, n_keys: int) -> Metadata:
    metadata = Metadata()
    for i in range(n_keys):
        reader.subject = f"metadata key {i + 1} of {n_keys}"
        start = reader.position
        key = reader.name("its name", MAX_KEY_BYTES)
        reader.subject = f"key {shown(key)}"
        if key in metadata:
            raise reader.error("is there twice; each key is allowed once", start)
        metadata[key], metadata.position_of[key] = read_value(reader), start
        if reader.position > MAX_METADATA_BYTES:
            raise reader.error(
                f"the metadata up to here is longer than the {MAX_METADATA_BYTES} bytes allowed"
            )
    return metadata


def _alignment(reader: ByteReader, metadata: Metadata) -> int:
    alignment = metadata.get("general.alignment", 32)
    whole = isinstance(alignment, int) and not isinstance(alignment, bool)
    if not whole or not 1 <= alignment <= MAX_ALIGNMENT or alignment & (alignment - 1):
        reader.subject = "key 'general.alignment'"
        raise reader.error(
            f"is {_brief(alignment)}; a power of two up to {MAX_ALIGNMENT} is needed",
            metadata.position_of["general.alignment"],
        )
    return alignment


def _read_tensor_entries(reader: ByteReader, n_tensors: int) -> dict[str, _Entry]:
    entries: dict[str, _Entry] = {}
    for i in range(n_tensors):
        reader.subject = f"tensor {i + 1} of {n_tensors}"
        start = reader.position
        name = reader.name("its name", MAX_TENSOR_NAME_BYTES)
        reader.subject = f"tensor {shown(name)}"
        if name in entries:
            raise reader.error("is there twice; each name is allowed once", start)
        shape = _read_shape(reader)
        ggml_type = reader.u32("its type")
        if ggml_type not in TYPES_BY_GGML_ID:
            raise reader.error(f"has {describe_unread_type(ggml_type)}", reader.position - 4)
        entries[name] = _Entry(ggml_type, shape, reader.u64("its offset"), start)
    return entries


def _read_shape(reader: ByteReader) -> tuple[int, ...]:
    n_dims = reader.u32("its number of dimensions")
    if not 1 <= n_dims <= 4:
        raise reader.error(f"has {n_dims} dimensions; 1 to 4 are allowed", reader.position - 4)
    shape = tuple(reader.u64("a dimension") for _ in range(n_dims))
    if not all(1 <= dim <= MAX_DIM for dim in shape):
        raise reader.error(f"has the shape {list(shape)}; each dimension is 1 to {MAX_DIM}", reader.position)
    return shape


def _place_tensors(reader: ByteReader, entries: dict[str, _Entry], alignment: int) -> dict[str, TensorInfo]:
    """Check sizes, offsets and overlaps, and work out the space each tensor has."""
    data_start = -(-reader.position // alignment) * alignment
    placed = {}
    space_end = reader.size
    for name in sorted(entries, key=lambda n: entries[n].data_offset, reverse=True):  # from last to first
        entry = entries[name]
        reader.subject = f"tensor {shown(name)}"
        nbytes = _tensor_bytes(reader, entry)
        if entry.data_offset % alignment:
            raise reader.error(
                f"its offset {entry.data_offset} is not a multiple of the alignment {alignment}",
                entry.position,
            )
        start = data_start + entry.data_offset
        end = start + nbytes
        if end > space_end and foreign_blocks_fit(entry.ggml_type, entry.shape, space_end - start, alignment):
            raise reader.error(f"its data {FOREIGN_BLOCKS}", entry.position)
        if end > reader.size:
            raise reader.error(
                f"its data is bytes {start} to {end} and the file has {reader.size}; "
                "it is damaged or was not copied whole",
                entry.position,
            )
        if end > space_end:
            raise reader.error(
                f"its data, bytes {start} to {end}, runs into the tensor at byte {space_end}", entry.position
            )
        placed[name] = TensorInfo(
            name, entry.ggml_type, entry.shape, reader.file, start, nbytes, space_end - start, alignment
        )
        space_end = start
    return {name: placed[name] for name in entries}


def _tensor_bytes(reader: ByteReader, entry: _Entry) -> int:
    try:
        n_rows = math.prod(entry.shape[1:])
        return TYPES_BY_GGML_ID[entry.ggml_type].matrix_bytes(n_rows, entry.shape[0])
    except ValueError as error:
        raise reader.error(f"has the shape {list(entry.shape)}: {error}", entry.position) from None


def _brief(value: Any) -> str:
    text = ascii(value)
    return " ".join(text.split()) if len(text) <= 60 else f"{type(value).__name__} {text[:40]}..."
