"""Interleaved rows are laid out as the plain type's, bit for bit; what they then say, test_formats judges."""

import numpy as np
import pytest

from kernels.quant_tensor import FILE_TYPES, QuantType
from kernels.random_weights import random_weight
from kernels.row_interleaving import plain_rows

INTERLEAVED = [t for t in FILE_TYPES.values() if t.plain is not None]


@pytest.mark.parametrize("file_type", INTERLEAVED, ids=lambda t: t.name)
def test_every_bit_of_a_unit_finds_one_place(file_type: QuantType) -> None:
    """One bit set after another: nothing of a file is dropped, and nothing is read twice."""
    assert file_type.plain is not None
    n_bits = 8 * file_type.matrix_bytes(4, 256)
    units = np.packbits(np.eye(n_bits, dtype=np.uint8), axis=1)
    moved = np.unpackbits(plain_rows(file_type.plain, 256, units.reshape(-1)).reshape(n_bits, -1), axis=1)
    assert (moved.sum(axis=0) == 1).all()
    assert (moved.sum(axis=1) == 1).all()


@pytest.mark.parametrize("n_units", [1, 48, 49, 150])  # 48 units of these are moved at once
def test_units_are_alike_one_by_one_and_together(n_units: int) -> None:
    plain = FILE_TYPES["IQ5_KS"]
    data = random_weight("IQ5_KS_R4", 4 * n_units, 2048, np.random.default_rng(n_units))
    one_by_one = [plain_rows(plain, 2048, unit) for unit in data.reshape(n_units, -1)]
    np.testing.assert_array_equal(plain_rows(plain, 2048, data), np.concatenate(one_by_one))
