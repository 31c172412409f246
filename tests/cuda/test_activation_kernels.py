"""The kernels between the linears give the CPU's bits on ragged shapes, in any thread order."""

from typing import Any

import numpy as np
import pytest

from kernels.ops import Ops
from support.cuda_device import ORDERS, generator, thread_order
from support.sequences import on


def normal(name: str, *shape: int) -> np.ndarray:
    return generator(name).standard_normal(shape).astype(np.float32) * 3


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int32)


def angles(half: int) -> np.ndarray:
    turns = generator("angles").uniform(-np.pi, np.pi, (4, half)).astype(np.float32)
    return np.stack([np.cos(turns), np.sin(turns)], -1)


#: name -> (op, its arguments; arrays go to the backend's own). Widths that fill no warp and more than one block.
CASES: dict[str, tuple[str, tuple[Any, ...]]] = {
    **{
        f"rms_norm {n}": ("rms_norm", (normal("x", 3, n), normal("w", n), 1e-5))
        for n in (1, 15, 64, 300, 1056)
    },
    **{f"silu_mul {n}": ("silu_mul", (normal("gate", 3, n), normal("up", 3, n))) for n in (1, 17, 288, 1000)},
    "silu_mul of the odd ones": (
        "silu_mul",
        (np.array([[0, -0.0, 1e-30, -1e-30, 88, -88, 1e4, -1e4, np.inf]], np.float32), normal("up", 1, 9)),
    ),
    **{f"gelu_mul {n}": ("gelu_mul", (normal("gate", 3, n), normal("up", 3, n))) for n in (1, 17, 288)},
    "gelu_mul of the odd ones": (
        "gelu_mul",
        (np.array([[0, -0.0, 1e-30, -1e-30, 88, -88, 1e4, -1e4, np.inf]], np.float32), normal("up", 1, 9)),
    ),
    "add": ("add", (normal("x", 3, 701), normal("y", 3, 701))),
    "concat": ("concat", (normal("x", 3, 5, 301), normal("y", 3, 5, 64))),
    "add_bias": ("add_bias", (normal("x", 3, 701), normal("y", 701))),
    "scale_by_position": (
        "scale_by_position",
        (normal("x", 6, 701), ints(-1, 0, 15, 16, 47, 90), normal("factors", 4), 16),
    ),
    "take_rows": ("take_rows", (normal("x", 9, 333), ints(8, 0, 0, 3))),
    "rope pairs": ("rope", (normal("x", 4, 3, 20), angles(10), True)),
    "rope halves": ("rope", (normal("x", 4, 3, 20), angles(10), False)),
    "rope part": ("rope", (normal("x", 4, 3, 20), angles(4), False)),
    "rope of many": ("rope", (normal("x", 4, 2, 256), angles(128), False)),
}


def run(ops: Ops, op: str, arguments: tuple[Any, ...]) -> np.ndarray:
    ops.begin_step()
    given = [on(ops, a) if isinstance(a, np.ndarray) else a for a in arguments]
    return np.array(ops.to_host(getattr(ops, op)(*given)))


@pytest.mark.parametrize("case", CASES)
def test_gives_the_cpus_bits_in_any_thread_order(cuda_ops: Ops, cpu_ops: Ops, case: str) -> None:
    with np.errstate(all="ignore"):
        expected = run(cpu_ops, *CASES[case])
    for order in ORDERS:
        with thread_order(order):
            got = run(cuda_ops, *CASES[case])
            same = (got.view(np.uint32) == expected.view(np.uint32)) | (np.isnan(got) & np.isnan(expected))
            assert same.all(), f"order {order}: {(~same).sum()} values differ"


def test_rotation_angles_are_the_cpus_but_for_one_rounding(cuda_ops: Ops, cpu_ops: Ops) -> None:
    """Cosines and sines are made in double and rounded; where another last bit of the double rounds the other way
    that is one float of values up to 1.2.
    """
    freqs = np.geomspace(1, 1e-4, 40).astype(np.float32)
    arguments = (ints(0, 1, 5, 100_000), freqs, 1.2)
    expected = run(cpu_ops, "rope_angles", arguments)
    for order in ORDERS:
        with thread_order(order):
            np.testing.assert_allclose(
                run(cuda_ops, "rope_angles", arguments), expected, rtol=0, atol=2.0**-23
            )
