"""The two generators over all 65536 indices: the reference, the compiled headers and the formula as written."""

import numpy as np
import pytest

from kernels.cpu.ops import CpuOps
from kernels.quant_tensor import TYPES
from kernels.reference.formats import dequantize
from kernels.reference.formats.kt import integer_trellis, three_inst

INDICES = np.arange(65536)


def integer_value(index: int, offset: int, step: int) -> int:
    """x <- x * 0xCBAC1FED; the sum of the bytes of x AND 0x3F3F3F3F, less 126."""
    x = (index + offset) * pow(0xCBAC1FED, step, 1 << 32) % (1 << 32)
    return sum((x & 0x3F3F3F3F).to_bytes(4, "little")) - 126


def three_inst_value(index: int, offset: int, steps: int) -> int:
    """x <- a x + b; two halves of (x AND 0x8FFF8FFF) XOR 0x3B603B60 as float16, added, times 8192."""
    x = index + offset
    for _ in range(steps):
        x = (89226354 * x + 64248484) % (1 << 32)
    halves = np.array([(x & 0x8FFF8FFF) ^ 0x3B603B60], np.uint32).view(np.float16).astype(np.float64)
    return int(halves.sum() * 8192)


@pytest.mark.parametrize("offset", [4096, 36864])
def test_reference_generators_follow_the_formula(offset: int) -> None:
    rng = np.random.default_rng(offset)
    integer, inst = integer_trellis(INDICES + offset, 8), three_inst(INDICES + offset, 8)
    # The sum of index and offset passes 16 bits: the last indices must not wrap.
    for index in [0, 61439, 61440, 65535, *rng.integers(0, 65536, 300).tolist()]:
        assert integer[index].tolist() == [integer_value(index, offset, k) for k in range(1, 9)]
        assert inst[index].tolist() == [three_inst_value(index, offset, k) for k in range(1, 9)]


def test_values_stay_within_what_the_kernels_assume() -> None:
    values = integer_trellis(INDICES + 4096, 8)
    assert (values.min(), values.max()) == (-122, 123)  # of 16-bit indices; the kernels allow -126 .. 126
    assert np.abs(three_inst(INDICES + 4096, 8)).max() <= 32752


@pytest.mark.parametrize("type_name", ["IQ2_KT", "IQ2_KT_V1", "IQ3_KT", "IQ3_KT_V1"])
def test_headers_and_vectors_agree_with_the_reference_on_all_indices(cpu_ops: CpuOps, type_name: str) -> None:
    rows = np.zeros((256, TYPES[type_name].row_bytes(2048)), np.uint8)
    rows[:, :4] = np.full((256, 1), 1.0, "<f4").view(np.uint8)
    blocks = rows[:, 4:].reshape(256, 8, -1)
    blocks[:, :, :4] = 0x99  # a scale of every 32-block
    blocks[:, :, 4:68] = INDICES.astype("<u2").reshape(256, 8, 32).view(np.uint8)
    blocks[:, :, 68:] = 0x5A  # signs, where there are any
    data = rows.reshape(-1)
    expected = dequantize(type_name, data, 256, 2048)
    for uses in ({"embed"}, {"embed", "linear"}):
        table = cpu_ops.load_quant(type_name, (256, 2048), data, frozenset(uses))
        cpu_ops.begin_step()
        got = cpu_ops.embed(table, np.arange(256, dtype=np.int32))
        assert (got.view(np.uint32) == expected.view(np.uint32)).all()
