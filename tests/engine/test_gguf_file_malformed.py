"""Files that are wrong in one place: refused at once, in one line that says where."""

import os
import re
import struct
import time
import tracemalloc

import pytest

from engine.errors import ModelFileError
from engine.loading.gguf_file import GGUFFile
from support.gguf_writer import (
    ARRAY,
    BOOL,
    STRING,
    UINT8,
    UINT32,
    gguf_bytes,
    header,
    key,
    pad,
    string,
    tensor_entry,
)
from support.tiny_models import write_tiny_llama

u32, u64 = (lambda n: struct.pack("<I", n)), (lambda n: struct.pack("<Q", n))
ENTRY = tensor_entry("w", (4,), 0, 0)


def array(element_type: int, count: int, payload: bytes = b"") -> bytes:
    return header(0, 1) + string("a.list") + u32(ARRAY) + u32(element_type) + u64(count) + payload


def one_key(name: bytes | str, rest: bytes) -> bytes:
    return header(0, 1) + string(name) + rest


def tensors(*entries: bytes, data: bytes = bytes(64), metadata: bytes = b"", n_keys: int = 0) -> bytes:
    return pad(header(len(entries), n_keys) + metadata + b"".join(entries), 32) + data


# name -> (bytes, what the message must say)
MALFORMED = {
    "empty": (b"", "is empty"),
    "magic alone": (b"GGUF", "the version takes 4 bytes"),
    "header cut": (b"GGUF" + u32(3) + u64(1), "the number of metadata keys"),
    "zip": (b"PK\x03\x04" + bytes(60), "ZIP archive"),
    "imatrix.dat": (
        u32(28) + u32(21) + b"blk.3.ffn_down.weight" + u32(236) + u32(512) + bytes(2048),
        r"an importance matrix \(imatrix.dat\), .* give the quantized model",
    ),
    "imatrix.dat with a name that is none": (
        u32(28) + u32(21) + b"blk.3.\x1b[31m" + bytes(60),
        "where a GGUF file has",
    ),
    "pickle": (b"\x80\x02}q\x00", "pickle"),
    "safetensors": (u64(40) + b'{"__metadata__":{}}', "safetensors"),
    "ggml": (b"lmgg" + bytes(60), "GGML file"),
    "ggml spelled": (b"GGML" + bytes(60), "GGML file"),
    "ggjt": (b"tjgg" + bytes(60), "GGJT file"),
    "lfs": (b"version https://git-lfs.example/spec/v1\noid sha256:00\n", "git lfs pull"),
    "html": (b"\n<!DOCTYPE html><html>", "web page"),
    "json": (b'{"error": "no"}', "JSON"),
    "zeros": (bytes(4096), "begins with zeros"),
    "other": (b"hello world", "begins with b'hell'"),
    "big endian": (b"GGUF" + struct.pack(">I", 3) + bytes(16), "big-endian file of version 3"),
    "version 1": (header(0, 0, version=1), "version 1,"),
    "version 4": (header(0, 0, version=4), "version 4;"),
    "tensor count 2^63": (header(2**63, 0), "tensors are declared"),
    "key count 2^63": (header(0, 2**63), "metadata keys are declared"),
    "key count past the end": (header(0, 60000) + bytes(100), "60000 metadata keys"),
    "tensor count past the end": (header(1000, 0) + bytes(100), "1000 tensors"),
    "key name of 2^63": (header(0, 1) + u64(2**63) + bytes(64), "has 9223372036854775808 bytes"),
    "key name empty": (one_key("", u32(UINT8) + bytes(16)), "has 0 bytes"),
    "key name no utf-8": (one_key(b"\xff\xfe", u32(UINT8) + b"\0"), "is not UTF-8"),
    "key name cut": (header(0, 1) + u64(600) + b"general.architecture", "takes 600 bytes"),
    "key twice": (header(0, 2) + key("a.b", 1) * 2, "key 'a.b' .* is there twice"),
    "value type 13": (one_key("a.b", u32(13) + bytes(8)), "value type 13"),
    "value cut": (one_key("a.b", u32(UINT32) + b"\0"), "key 'a.b' .* uint32 value takes 4"),
    "bool 2": (one_key("a.b", u32(BOOL) + b"\2"), "a bool holds 2"),
    "string of 2^64-1": (one_key("a.b", u32(STRING) + u64(2**64 - 1)), "a string of 18446744073709551615"),
    "string past the end": (one_key("a.b", u32(STRING) + u64(99) + b"x"), "a string of 99 bytes"),
    "array of 2^63 strings": (array(STRING, 2**63), "9223372036854775808 strings"),
    "array of 2^63 bytes": (array(UINT8, 2**63), "array elements"),
    "array of 2^61 u64": (array(10, 2**61), "array elements"),
    "array of arrays": (array(ARRAY, 1, bytes(40)), "array of arrays"),
    "array of type 99": (array(99, 1, bytes(40)), "element type 99"),
    "array bool 7": (array(BOOL, 3, b"\1\7\0"), "a bool in an array holds 7"),
    "array string past the end": (array(STRING, 2, string("a") + u64(2**40)), "string 1 of 2"),
    "array string cut": (array(STRING, 3, string("a" * 30) + u32(0)), "string 1 of 3"),
    "token of 1 MiB": (array(STRING, 1, string("a" * 2**20)), "string 0 of 1 has 1048576 bytes"),
    "alignment 0": (gguf_bytes({"general.alignment": 0}), "'general.alignment' .* is 0; a power of two"),
    "alignment 48": (gguf_bytes({"general.alignment": 48}), "is 48; a power of two"),
    "alignment 2^31": (gguf_bytes({"general.alignment": 2**31}), "is 2147483648; a power of two"),
    "alignment text": (gguf_bytes({"general.alignment": "32"}), "is '32'; a power of two"),
    "split without number": (gguf_bytes({"split.count": 3}), "'split.no' is missing"),
    "split into 2^31": (gguf_bytes({"split.count": 2**31}), "'split.count' at byte .* from 0 to 65535"),
    "tensor name of 2^40": (header(1, 0) + u64(2**40) + bytes(64), "1 to 128 are allowed"),
    "tensor twice": (tensors(ENTRY, ENTRY), "tensor 'w' .* is there twice"),
    "no dimensions": (tensors(tensor_entry("w", (), 0, 0)), "has 0 dimensions"),
    "five dimensions": (tensors(tensor_entry("w", (1,) * 5, 0, 0)), "has 5 dimensions"),
    "2^32-1 dimensions": (header(1, 0) + string("w") + u32(2**32 - 1) + bytes(64), "4294967295 dimensions"),
    "dimension 0": (tensors(tensor_entry("w", (4, 0), 0, 0)), r"has the shape \[4, 0\]"),
    "dimension 2^63": (tensors(tensor_entry("w", (2**63, 2), 0, 0)), "each dimension is"),
    "product wraps": (tensors(tensor_entry("w", (2**40, 2**40, 2**40), 0, 0)), "its data is bytes"),
    "type 5": (tensors(tensor_entry("w", (4,), 5, 0)), "GGUF type 5; this build reads F32"),
    "type Q8_1": (tensors(tensor_entry("w", (256,), 9, 0)), r"GGUF type 9 \(Q8_1\)"),
    "type Q4_K_R4": (tensors(tensor_entry("w", (256,), 212, 0)), r"212 \(Q4_K_R4, rows interleaved\)"),
    "ragged unit": (tensors(tensor_entry("w", (256, 6), 339, 0)), "IQ4_K_R4 interleaves 4 rows, and 6 is no"),
    "ragged row": (tensors(tensor_entry("w", (100,), 153, 0)), "a multiple of 256 weights, not 100"),
    "IQ3_KT of a fork": (
        tensors(tensor_entry("w", (512, 3), 154, 0), data=bytes(3 * (4 + 2 * 96))),
        "'w' at byte .* a fork of llama.cpp for HIP and Vulkan .* a file that ik_llama.cpp quantized is needed",
    ),
    "IQ2_KT of a fork before a tensor": (
        tensors(tensor_entry("w", (256, 8), 153, 0), tensor_entry("v", (4,), 0, 544), data=bytes(544 + 16)),
        "'w' at byte .* a fork of llama.cpp",
    ),
    "IQ3_KT of a fork, no factor a row": (
        tensors(tensor_entry("w", (512, 9), 154, 0), data=bytes(9 * 2 * 96)),
        "'w' at byte .* a fork of llama.cpp",
    ),
    "IQ3_KT cut": (
        tensors(tensor_entry("w", (512, 3), 154, 0), data=bytes(3 * (4 + 2 * 100) - 1)),
        "'w' at byte .* not copied whole",
    ),
    "offset unaligned": (tensors(tensor_entry("w", (4,), 0, 8)), "offset 8 is not a multiple"),
    "offset 2^63": (tensors(tensor_entry("w", (4,), 0, 2**63)), "'w' .* its data is bytes"),
    "offset past the end": (tensors(tensor_entry("w", (4,), 0, 64)), "not copied whole"),
    "data cut": (tensors(tensor_entry("w", (17,), 0, 0)), "not copied whole"),
    "overlap": (
        tensors(tensor_entry("a", (16,), 0, 0), tensor_entry("b", (4,), 0, 32)),
        "runs into the tensor",
    ),
    "same place": (
        tensors(tensor_entry("a", (4,), 0, 0), tensor_entry("b", (4,), 0, 0)),
        "runs into the tensor",
    ),
    "tensor entry cut": (header(1, 0) + ENTRY[:-4] + b"", "is damaged or was not copied whole"),
}


def refusal(path) -> str:
    """The message, after checks that hold for every refusal: one line, the file's name, no hang, little memory."""
    tracemalloc.start()
    start = time.thread_time()
    try:
        with pytest.raises(ModelFileError) as caught:
            GGUFFile.open(path)
        seconds, peak = time.thread_time() - start, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    assert len(message) < 600
    assert seconds < 2.0  # CPU time of this thread: a declared length of 2^63 must not be walked
    assert peak < 8 << 20
    return message


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_file_is_refused_in_one_line(tmp_path, name):
    data, expected = MALFORMED[name]
    path = tmp_path / "bad.gguf"
    path.write_bytes(data)
    message = refusal(path)

    assert re.search(expected, message), message
    assert not data or " at byte " in message or "is missing" in message


def test_what_is_no_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert "No such file" in refusal(tmp_path / "missing.gguf")
    assert "not a regular file" in refusal(tmp_path / "pipe")
    refusal(tmp_path)  # a folder
    with pytest.raises(ModelFileError):
        GGUFFile.open("nul\0byte")


def test_every_truncation_is_refused(tmp_path):
    whole = write_tiny_llama(tmp_path / "whole.gguf", n_layer=1).read_bytes()
    path = tmp_path / "cut.gguf"
    for length in [*range(1, 200), *range(200, len(whole) - 1, 4999), len(whole) - 32]:
        path.write_bytes(whole[:length])
        refusal(path)
