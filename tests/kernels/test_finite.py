"""A factor that is NaN or infinite is found in any row, of any type, on every backend, and nothing else is."""

import numpy as np
import pytest

from kernels.ops import Ops
from kernels.quant_tensor import TYPES
from kernels.random_weights import random_weight
from kernels.reference.formats import dequantize
from kernels.reference.tables import number, table

N_OUT, N_IN = 40, 768


def sane(type_name: str, rng: np.random.Generator) -> np.ndarray:
    return random_weight(type_name, N_OUT, N_IN, rng).reshape(N_OUT, -1)


def with_wild_blocks(
    type_name: str, rows: np.ndarray, wild: list[int], rng: np.random.Generator
) -> np.ndarray:
    """The same rows, some with random bits behind their header, whose float32 could overflow in a product."""
    data = rows.copy()
    header = TYPES[type_name].row_header_bytes
    for row in wild:
        data[row, header:] = np.frombuffer(rng.bytes(rows.shape[1] - header), np.uint8)
    return data


def first_bad(weights: np.ndarray) -> int | None:
    bad = ~np.isfinite(weights).all(axis=1)
    return int(np.argmax(bad)) if bad.any() else None


@pytest.mark.parametrize("type_name", TYPES)
def test_sane_weights_have_no_row_to_find(ops: Ops, type_name: str) -> None:
    data = sane(type_name, np.random.default_rng(1)).reshape(-1)
    assert ops.first_nonfinite_row(type_name, (N_OUT, N_IN), data) is None


@pytest.mark.parametrize("type_name", TYPES)
@pytest.mark.parametrize("seed", range(4))
def test_the_row_found_is_the_first_whose_weights_are_no_numbers(ops: Ops, type_name: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    wild = rng.integers(0, N_OUT, 3).tolist()
    data = with_wild_blocks(type_name, sane(type_name, rng), wild, rng).reshape(-1)
    with np.errstate(all="ignore"):
        expected = first_bad(dequantize(type_name, data, N_OUT, N_IN))
    assert ops.first_nonfinite_row(type_name, (N_OUT, N_IN), data) == expected


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("type_name", [name for name, t in TYPES.items() if t.row_header_bytes])
def test_every_float_of_a_row_header_is_looked_at(ops: Ops, type_name: str, value: float) -> None:
    # The second field of Q8_KV is an integer, the sum of the row's codes.
    header_bytes = 4 if type_name == "Q8_KV" else TYPES[type_name].row_header_bytes
    field = np.array([value], "<f2" if header_bytes == 2 else "<f4").view(np.uint8)
    for at in range(0, header_bytes, len(field)):
        data = sane(type_name, np.random.default_rng(2)).copy()
        data[17, at : at + len(field)] = field
        assert ops.first_nonfinite_row(type_name, (N_OUT, N_IN), data.reshape(-1)) == 17


def test_the_largest_four_bit_float_is_the_tables() -> None:
    """A block's factor is asked whether it overflows with this number; a smaller one would let infinities in."""
    assert number("kLargestFP4") == np.abs(table("kTableFP4")).max()


@pytest.mark.parametrize("type_name", TYPES)
def test_data_of_another_size_is_refused(cpu_ops: Ops, type_name: str) -> None:
    with pytest.raises(ValueError, match="bytes, not"):
        cpu_ops.first_nonfinite_row(type_name, (N_OUT + 1, N_IN), sane(type_name, np.random.default_rng(3)))
