"""Every tensor type decodes bit for bit, by the NumPy reference and by the compiled headers."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType
from gguf.quants import dequantize as package_dequantize

from kernels.cpu.ops import CpuOps
from kernels.ops import Ops
from kernels.quant_tensor import FILE_TYPES, TYPES, QuantType
from kernels.random_weights import random_weight
from kernels.reference.fma import fma32
from kernels.reference.formats import DENSE, dequantize
from kernels.reference.formats.fields import bits, f16, u16
from kernels.reference.formats.iqk import iq6_k_codes
from kernels.reference.tables import table
from kernels.row_interleaving import plain_rows

EMBED, LINEAR = frozenset({"embed"}), frozenset({"linear", "embed"})
DIGESTS = json.loads((Path(__file__).parents[1] / "data" / "format_digests.json").read_text())
FIRST_PEER_ID = 133  # the peer's own types, which the gguf package does not know, begin here
GOLDEN = [t.name for t in TYPES.values() if (t.ggml_id or 0) >= FIRST_PEER_ID and t.name != "IQ6_K"]
TAILED = [t.name for t in TYPES.values() if t.tail_nibbles]
INTERLEAVED = [t for t in FILE_TYPES.values() if t.plain is not None]
MAINLINE = [name for name in TYPES if name in GGMLQuantizationType.__members__ and name != "F32"]
N_OUT, N_IN = 5, 768


def compiled(
    ops: Ops, type_name: str, data: np.ndarray, n_out: int, n_in: int, uses: frozenset[str]
) -> np.ndarray:
    """Rows as the compiled headers decode them: from file bytes, or out of a tile where a linear reads it too."""
    table = ops.load_quant(type_name, (n_out, n_in), data, uses)
    ops.begin_step()
    return ops.to_host(ops.embed(table, ops.index_array(np.arange(n_out)))).copy()


def assert_same_bits(got: np.ndarray, expected: np.ndarray) -> None:
    """Bit for bit; NaN equals NaN, as payloads are not part of any format."""
    same = (got.view(np.uint32) == expected.view(np.uint32)) | (np.isnan(got) & np.isnan(expected))
    assert same.all(), f"{(~same).sum()} of {same.size} weights differ"


@pytest.mark.parametrize("kind", ["noim", "im", "rand"])
@pytest.mark.parametrize("type_name", GOLDEN)
def test_golden_arrays_decode_bit_for_bit(shared: Path, cpu_ops: CpuOps, type_name: str, kind: str) -> None:
    golden = np.load(shared / "golden" / f"{type_name}.npz")
    raw, expected = golden[f"raw_{kind}"], golden[f"deq_{kind}"]
    data = np.ascontiguousarray(raw).reshape(-1)
    assert_same_bits(dequantize(type_name, data, *expected.shape), expected)
    for uses in (EMBED, LINEAR):
        assert_same_bits(compiled(cpu_ops, type_name, data, *expected.shape, uses), expected)


@pytest.mark.parametrize("type_name", TAILED)
def test_golden_rows_with_tails_decode_bit_for_bit(shared: Path, cpu_ops: CpuOps, type_name: str) -> None:
    golden = np.load(shared / "golden" / f"{type_name}_tails.npz")
    widths = [int(name.removeprefix("raw_")) for name in golden if name.startswith("raw_")]
    assert {32, 160, 320} < set(widths)
    for n_in in widths:
        data, expected = np.ascontiguousarray(golden[f"raw_{n_in}"]).reshape(-1), golden[f"deq_{n_in}"]
        assert_same_bits(dequantize(type_name, data, *expected.shape), expected)
        for uses in (EMBED, LINEAR):
            assert_same_bits(compiled(cpu_ops, type_name, data, *expected.shape, uses), expected)


@pytest.mark.parametrize("kind", ["noim", "im", "rand"])
@pytest.mark.parametrize("file_type", INTERLEAVED, ids=lambda t: t.name)
def test_golden_arrays_of_interleaved_rows_decode_bit_for_bit(
    shared: Path, file_type: QuantType, kind: str
) -> None:
    golden = np.load(shared / "golden" / f"{file_type.name}.npz")
    raw, expected = golden[f"raw_{kind}"], golden[f"deq_{kind}"]
    assert_same_bits(decoded(file_type, np.ascontiguousarray(raw).reshape(-1), *expected.shape), expected)


def decoded(file_type: QuantType, data: np.ndarray, n_out: int, n_in: int) -> np.ndarray:
    """Interleaved rows as they are loaded."""
    assert file_type.plain is not None
    return dequantize(file_type.plain.name, plain_rows(file_type.plain, n_in, data), n_out, n_in)


def cubic(codes: np.ndarray, extra: np.ndarray) -> np.ndarray:
    """IQ6_K values as the peer's `to_float` evaluates them; linears round them to whole numbers (kTable6)."""
    q = codes.astype(np.float32)
    value = np.full_like(q, 0.0011972)
    for coefficient in (-0.11218, 6.2568, -127.0):
        value = fma32(q, value, np.full_like(q, coefficient))
    return value + extra.astype(np.float32)


@pytest.mark.parametrize("kind", ["noim", "im", "rand"])
def test_iq6_k_golden_arrays_hold_the_cubic_behind_its_table(
    shared: Path, cpu_ops: CpuOps, kind: str
) -> None:
    golden = np.load(shared / "golden" / "IQ6_K.npz")
    raw, expected = golden[f"raw_{kind}"], golden[f"deq_{kind}"]
    blocks = raw.reshape(8, -1, TYPES["IQ6_K"].block_bytes)
    extra = np.repeat(bits(u16(blocks, 2)[:, :, 0], 16), 16, axis=2)
    scaled = f16(blocks, 0)[:, :, None] * blocks[:, :, 4:20].view(np.int8).astype(np.float32)
    values = cubic(iq6_k_codes(blocks), extra)
    assert_same_bits((np.repeat(scaled, 16, axis=2) * values).reshape(8, -1), expected)
    # The table is the cubic, rounded: half a unit off at most.
    assert np.abs(table("kTable6")[iq6_k_codes(blocks) + 64 * extra] - values).max() <= 0.5
    weights = dequantize("IQ6_K", np.ascontiguousarray(raw).reshape(-1), *expected.shape)
    for uses in (EMBED, LINEAR):
        got = compiled(cpu_ops, "IQ6_K", np.ascontiguousarray(raw).reshape(-1), *expected.shape, uses)
        assert_same_bits(got, weights)


@pytest.mark.parametrize("type_name", MAINLINE)
def test_mainline_types_decode_as_the_gguf_package_does(cpu_ops: CpuOps, type_name: str) -> None:
    """From scales as they occur, and from any bytes at all; out of file bytes and out of tiles."""
    rng = np.random.default_rng(11)
    likely = random_weight(type_name, 16, 1024, rng)
    for data in (likely, np.frombuffer(rng.bytes(likely.nbytes), np.uint8)):
        with np.errstate(all="ignore"):
            expected = package_dequantize(data.reshape(16, -1), GGMLQuantizationType[type_name])
            assert_same_bits(dequantize(type_name, data, 16, 1024), expected)
        for uses in (EMBED, LINEAR) if type_name not in DENSE else (EMBED,):
            assert_same_bits(compiled(cpu_ops, type_name, data, 16, 1024, uses), expected)


def digest(values: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()[:32]


def seeded(type_name: str) -> np.ndarray:
    return random_weight(type_name, N_OUT, N_IN, np.random.default_rng([7, *type_name.encode()]))


@pytest.mark.parametrize("type_name", TYPES)
def test_seeded_bytes_decode_as_they_did(cpu_ops: CpuOps, type_name: str) -> None:
    """A clone without the shared data checks every type against what the golden arrays once confirmed.

    data/format_digests.json: type -> [digest of the bytes, digest of the weights]; a new type's line is
    [digest(seeded(name)), digest(dequantize(name, seeded(name), N_OUT, N_IN))].
    """
    data = seeded(type_name)
    bytes_digest, weights_digest = DIGESTS[type_name]
    assert digest(data) == bytes_digest
    assert digest(dequantize(type_name, data, N_OUT, N_IN)) == weights_digest
    assert digest(compiled(cpu_ops, type_name, data, N_OUT, N_IN, EMBED)) == weights_digest


@pytest.mark.parametrize("type_name", TAILED)
def test_seeded_tails_decode_as_they_did(type_name: str) -> None:
    """As above; a line is [digest(data), digest(dequantize(...))] of three whole blocks a row and a tail of five."""
    data = random_weight(type_name, N_OUT, 928, np.random.default_rng([8, *type_name.encode()]))
    weights = dequantize(type_name, data, N_OUT, 928)
    assert [digest(data), digest(weights)] == DIGESTS[f"{type_name}, rows of 928"]


@pytest.mark.parametrize("file_type", INTERLEAVED, ids=lambda t: t.name)
def test_seeded_interleaved_rows_decode_as_they_did(file_type: QuantType) -> None:
    """As above; a line is [digest(data), digest(decoded(...))] of two units of four rows."""
    data = random_weight(file_type.name, 8, N_IN, np.random.default_rng([7, *file_type.name.encode()]))
    assert [digest(data), digest(decoded(file_type, data, 8, N_IN))] == DIGESTS[file_type.name]


@pytest.mark.parametrize("type_name", TYPES)
@pytest.mark.parametrize("seed", range(3))
def test_wild_bytes_decode_alike_by_reference_and_headers(cpu_ops: CpuOps, type_name: str, seed: int) -> None:
    """Any bytes at all, infinite and NaN factors among them; tails of 1, 4 and 7 32-blocks where there may be one."""
    rng = np.random.default_rng(seed)
    n_in = N_IN + (32 * (1 + 3 * seed) if TYPES[type_name].row_multiple <= 32 else 0)
    data = np.frombuffer(rng.bytes(N_OUT * TYPES[type_name].row_bytes(n_in)), np.uint8)
    with np.errstate(all="ignore"):
        expected = dequantize(type_name, data, N_OUT, n_in)
    for uses in (EMBED, LINEAR) if type_name not in DENSE else (EMBED,):
        assert_same_bits(compiled(cpu_ops, type_name, data, N_OUT, n_in, uses), expected)


@pytest.mark.parametrize("type_name", TYPES)
def test_every_trellis_index_and_code_is_reached_by_wild_bytes(type_name: str) -> None:
    """The random bytes of these tests are no special case: decoded weights spread over both signs."""
    weights = dequantize(type_name, seeded(type_name), N_OUT, N_IN)
    assert np.isfinite(weights).all()
    assert (weights > 0).any()
    assert (weights < 0).any()
