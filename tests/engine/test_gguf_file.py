"""The GGUF reader takes what is right, both versions, and every kind of value."""

import numpy as np
import pytest

from engine.errors import ModelFileError
from engine.loading.gguf_file import GGUFFile
from kernels.quant_tensor import TYPES
from support.gguf_writer import FLOAT64, INT8, UINT64, Tensor, Typed, write_gguf

VALUES = {
    "a.bool": True,
    "a.uint": 7,
    "a.int": -3,
    "a.small": Typed(INT8, -5),
    "a.large": Typed(UINT64, 2**63),
    "a.float": 0.5,
    "a.double": Typed(FLOAT64, 1e300),
    "a.text": "gr\u00fcn\nnext line",
    "a.empty": "",
}


@pytest.mark.parametrize("version", [2, 3])
def test_values_come_back_as_written(tmp_path, version):
    with GGUFFile.open(write_gguf(tmp_path / "m.gguf", VALUES, version=version)) as gguf:
        expected = {k: v.value if isinstance(v, Typed) else v for k, v in VALUES.items()}
        assert gguf.metadata == expected
        assert gguf.metadata["a.bool"] is True


def test_arrays_come_back_and_outlive_the_file(tmp_path):
    arrays = {
        "f": np.array([1.5, -2.0], np.float32),
        "b": np.array([True, False]),
        "u": np.arange(5, dtype=np.uint64),
        "none": np.zeros(0, np.int32),
    }
    with GGUFFile.open(write_gguf(tmp_path / "m.gguf", arrays | {"s": ["a", "", "\u2581b"]})) as gguf:
        got = gguf.metadata
    for name, expected in arrays.items():
        assert got[name].dtype == expected.dtype
        np.testing.assert_array_equal(got[name], expected)
    assert got["s"] == ["a", "", "\u2581b"]


def test_token_bytes_that_are_no_utf8_survive(tmp_path):
    raw = b"\xff\xfe ok \xe2\x96"
    path = write_gguf(tmp_path / "m.gguf", {"t": [raw.decode("utf-8", "surrogateescape")]})
    with GGUFFile.open(path) as gguf:
        assert gguf.metadata["t"][0].encode("utf-8", "surrogateescape") == raw


@pytest.mark.parametrize("alignment", [1, 8, 64])
def test_tensors_are_found_at_their_alignment(tmp_path, alignment):
    rng = np.random.default_rng(0)
    tensors = [
        Tensor("a", "F32", (3, 5), rng.bytes(60)),
        Tensor("b", "IQ2_KT", (512, 3), rng.bytes(3 * (4 + 2 * 68))),
        Tensor("c", "Q8_0", (32,), rng.bytes(34)),
    ]
    metadata = {"general.alignment": alignment}
    with GGUFFile.open(write_gguf(tmp_path / "m.gguf", metadata, tensors, alignment=alignment)) as gguf:
        assert list(gguf.tensors) == ["a", "b", "c"]
        for tensor in tensors:
            info = gguf.tensors[tensor.name]
            assert info.shape == tensor.shape
            assert info.offset % alignment == 0
            assert info.nbytes == len(tensor.data) <= info.space
            assert gguf.tensor_bytes(tensor.name).tobytes() == tensor.data


def test_a_type_with_a_longer_row_header_must_fit_its_space(tmp_path):
    rows = bytes(40 * TYPES["IQ4_KT"].row_bytes(256))
    path = write_gguf(tmp_path / "m.gguf", {}, [Tensor("w", "IQ4_KT", (256, 40), rows)])
    with GGUFFile.open(path) as gguf, pytest.raises(ModelFileError, match=r"'w' at byte .* IQ4_KT_V1"):
        gguf.tensor_bytes("w", TYPES["IQ4_KT_V1"])


def resized(path, n_bytes):
    path.write_bytes(path.read_bytes()[:n_bytes].ljust(n_bytes, b"\0"))


@pytest.mark.parametrize("n_bytes", [8, 120, 400])
def test_a_file_that_changes_its_size_while_it_loads_is_noticed(tmp_path, n_bytes):
    path = write_gguf(tmp_path / "m.gguf", {}, [Tensor("a", "F32", (4,), bytes(16))])
    with GGUFFile.open(path) as gguf:
        gguf.check_unchanged()
        resized(path, n_bytes)
        with pytest.raises(ModelFileError, match="written to while it was being loaded"):
            gguf.check_unchanged()


def test_bytes_that_have_gone_are_an_error_and_no_signal(tmp_path):
    path = write_gguf(tmp_path / "m.gguf", {}, [Tensor("a", "F32", (1 << 16,), bytes(1 << 18))])
    with GGUFFile.open(path) as gguf:
        resized(path, 1 << 12)
        with pytest.raises(ModelFileError, match=r"byte 4096 is gone.* truncated while it was being loaded"):
            gguf.tensor_bytes("a")


def test_a_large_vocabulary_reads_whole(tmp_path):
    path = write_gguf(tmp_path / "m.gguf", {"t": [f"token {i}" for i in range(150_000)]})
    with GGUFFile.open(path) as gguf:
        assert len(gguf.metadata["t"]) == 150_000


def test_shared_files_agree_with_the_gguf_package(shared):
    from gguf import GGUFReader

    path = shared / "models" / "stories-wide256-F16.gguf"
    oracle = GGUFReader(path)
    with GGUFFile.open(path) as gguf:
        for key, value in gguf.metadata.items():
            np.testing.assert_array_equal(value, oracle.fields[key].contents())
        assert [t.name for t in oracle.tensors] == list(gguf.tensors)
        for tensor in oracle.tensors:
            info = gguf.tensors[tensor.name]
            assert (info.offset, info.nbytes) == (tensor.data_offset, tensor.n_bytes)
            np.testing.assert_array_equal(
                gguf.tensor_bytes(tensor.name), tensor.data.view(np.uint8).reshape(-1)
            )
