"""The values of GGUF metadata: thirteen types, of which strings and arrays carry a length to distrust."""

import struct
from typing import Any

import numpy as np

from engine.errors import ModelFileError
from engine.loading.byte_reader import ByteReader

_SCALARS = {  # GGUF value type: (name, layout)
    0: ("uint8", struct.Struct("<B")),
    1: ("int8", struct.Struct("<b")),
    2: ("uint16", struct.Struct("<H")),
    3: ("int16", struct.Struct("<h")),
    4: ("uint32", struct.Struct("<I")),
    5: ("int32", struct.Struct("<i")),
    6: ("float32", struct.Struct("<f")),
    10: ("uint64", struct.Struct("<Q")),
    11: ("int64", struct.Struct("<q")),
    12: ("float64", struct.Struct("<d")),
}
_BOOL, _STRING, _ARRAY = 7, 8, 9

MAX_STRING_BYTES = 1 << 24  # a chat template or a licence text is far below 16 MiB
MAX_ELEMENT_BYTES = 1 << 16  # one token of a vocabulary
MAX_ARRAY_BYTES = 1 << 26
MAX_ARRAY_STRINGS = 1 << 22


def read_value(reader: ByteReader) -> Any:
    """A value type and the value at the cursor.

    Numbers, bools and strings become Python's own; arrays of numbers and bools numpy arrays; arrays of
    strings lists. Bytes of a string that are not UTF-8 (tokens may be any bytes) become lone surrogates: the
    caller gets them back with `.encode("utf-8", "surrogateescape")`.
    """
    value_type = reader.u32("the value type")
    if value_type in _SCALARS:
        name, layout = _SCALARS[value_type]
        return reader.unpack(layout, f"its {name} value")
    if value_type == _BOOL:
        return _read_bool(reader)
    if value_type == _STRING:
        return _read_string(reader)
    if value_type == _ARRAY:
        return _read_array(reader)
    raise reader.error(f"value type {value_type} is none of GGUF's 0 to 12", reader.position - 4)


def _read_bool(reader: ByteReader) -> bool:
    value = reader.take(1, "its bool value")[0]
    if value > 1:
        raise reader.error(f"a bool holds {value}; 0 or 1 is allowed", reader.position - 1)
    return bool(value)


def _read_string(reader: ByteReader) -> str:
    start = reader.position
    n_bytes = reader.u64("the length of its string")
    if n_bytes > min(MAX_STRING_BYTES, reader.remaining):
        raise reader.error(
            f"a string of {n_bytes} bytes is declared; the file has {reader.remaining} left "
            f"and at most {MAX_STRING_BYTES} are allowed",
            start,
        )
    return reader.take(n_bytes, "its string").decode("utf-8", "surrogateescape")


def _read_array(reader: ByteReader) -> Any:
    element_type = reader.u32("the element type of its array")
    count = reader.u64("the length of its array")
    if element_type in _SCALARS:
        return _read_numbers(reader, np.dtype(_SCALARS[element_type][0]).newbyteorder("<"), count)
    if element_type == _BOOL:
        return _read_bools(reader, count)
    if element_type == _STRING:
        return _read_strings(reader, count)
    if element_type == _ARRAY:
        raise reader.error("an array of arrays, which no known model needs; this build reads flat arrays")
    raise reader.error(f"element type {element_type} is none of GGUF's 0 to 12", reader.position - 12)


def _read_numbers(reader: ByteReader, dtype: np.dtype, count: int) -> np.ndarray:
    reader.require_items(count, dtype.itemsize, "array elements")
    n_bytes = count * dtype.itemsize
    if n_bytes > MAX_ARRAY_BYTES:
        raise reader.error(f"an array of {n_bytes} bytes; at most {MAX_ARRAY_BYTES} are allowed")
    return np.frombuffer(reader.take(n_bytes, "its array"), dtype)


def _read_bools(reader: ByteReader, count: int) -> np.ndarray:
    start = reader.position
    values = _read_numbers(reader, np.dtype(np.uint8), count)
    if count and values.max() > 1:
        at = int(np.argmax(values > 1))
        raise reader.error(f"a bool in an array holds {values[at]}; 0 or 1 is allowed", start + at)
    return values.astype(bool)


def _read_strings(reader: ByteReader, count: int) -> list[str]:
    reader.require_items(count, 8, "strings")
    if count > MAX_ARRAY_STRINGS:
        raise reader.error(f"an array of {count} strings; at most {MAX_ARRAY_STRINGS} are allowed")
    strings: list[str] = []
    while len(strings) < count:
        found = _strings_at_hand(reader, count - len(strings))
        if not found:
            raise _string_error(reader, len(strings), count)
        strings += found
    return strings


def _strings_at_hand(reader: ByteReader, most: int) -> list[str]:
    """The strings that lie whole in the reader's window, as many as are wanted; none where the next is wrong.

    One tight loop: a vocabulary has up to 260 000 tokens and as many merges.
    """
    window = reader.upcoming(8 + MAX_ELEMENT_BYTES)
    length_at = struct.Struct("<Q").unpack_from
    strings, end, size = [], 0, len(window)
    for _ in range(most):
        start = end + 8
        n_bytes = length_at(window, end)[0] if start <= size else size
        if n_bytes > MAX_ELEMENT_BYTES or start + n_bytes > size:
            break
        strings.append(window[start : start + n_bytes].decode("utf-8", "surrogateescape"))
        end = start + n_bytes
    reader.position += end
    return strings


def _string_error(reader: ByteReader, index: int, count: int) -> ModelFileError:
    start = reader.position
    n_bytes = reader.u64(f"the length of string {index} of {count}")
    return reader.error(
        f"string {index} of {count} has {n_bytes} bytes; the file has {reader.remaining} left "
        f"and at most {MAX_ELEMENT_BYTES} are allowed",
        start,
    )
