"""The CPU ops beside the linears: against the reference on ragged shapes, and bit-equal on every tier."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from kernels.cache_groups import PagedGroup
from kernels.cpu import _native
from kernels.cpu.ops import CpuOps
from kernels.ops import Ops
from kernels.random_weights import random_weight

TIERS = _native.isa_tiers()


def rng() -> np.random.Generator:
    return np.random.default_rng(4)


def normal(*shape: int) -> np.ndarray:
    return rng().standard_normal(shape).astype(np.float32) * 3


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int32)


#: name -> the op on whatever Ops it is given. Widths that are no multiple of 16 lanes, sizes past one chunk.
CASES: dict[str, Callable[[Any], np.ndarray]] = {
    **{
        f"rms_norm {n}": lambda ops, n=n: ops.rms_norm(normal(5, n), normal(n), 1e-5)
        for n in (1, 15, 64, 300, 5000)
    },
    **{
        f"layer_norm {n}": lambda ops, n=n: ops.layer_norm(normal(5, n) + 2, normal(n), normal(n), 1e-6)
        for n in (1, 15, 128, 300)
    },
    **{f"silu_mul {n}": lambda ops, n=n: ops.silu_mul(normal(3, n), normal(3, n) + 1) for n in (1, 17, 9000)},
    **{f"gelu_mul {n}": lambda ops, n=n: ops.gelu_mul(normal(3, n), normal(3, n) + 1) for n in (1, 17, 9000)},
    "add": lambda ops: ops.add(normal(7, 4001), normal(7, 4001)),
    "add_bias": lambda ops: ops.add_bias(normal(7, 4001), normal(4001)),
    "scale_by_position": lambda ops: ops.scale_by_position(
        normal(6, 37), ints(-1, 0, 15, 16, 47, 90), normal(4), 16
    ),
    "concat": lambda ops: ops.concat(normal(9, 3, 33), normal(9, 3, 5)),
    "take_rows": lambda ops: ops.take_rows(normal(9, 33), ints(8, 0, 0, 3)),
    "rope_angles": lambda ops: ops.rope_angles(
        ints(0, 1, 5, 100_000), np.float32(10000.0) ** -normal(24), 1.2
    ),
    "rope pairs": lambda ops: ops.rope(normal(4, 3, 20), angles(ops, 10), interleaved=True),
    "rope halves": lambda ops: ops.rope(normal(4, 3, 20), angles(ops, 10), interleaved=False),
    "rope part": lambda ops: ops.rope(normal(4, 3, 20), angles(ops, 4), interleaved=False),
}


def angles(ops: Any, half: int) -> np.ndarray:
    return ops.rope_angles(ints(0, 3, 77, 4096), np.geomspace(1, 1e-4, half).astype(np.float32), 1.0)


def run(ops: Ops, case: str) -> np.ndarray:
    ops.begin_step()
    return np.array(CASES[case](ops))


@pytest.mark.parametrize("case", CASES)
def test_agrees_with_the_reference(cpu_ops: CpuOps, reference_ops: Ops, case: str) -> None:
    """A handful of float32 roundings each: sums of up to 5000 squares, an exponential within 2 ulp."""
    np.testing.assert_allclose(run(cpu_ops, case), run(reference_ops, case), rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("case", CASES)
def test_every_tier_and_thread_count_gives_the_same_bits(case: str) -> None:
    expected = run(CpuOps(threads=1, isa="scalar"), case)
    for isa in TIERS:
        for threads in (1, 2, 3):
            got = run(CpuOps(threads=threads, isa=isa), case)
            assert (got.view(np.uint32) == expected.view(np.uint32)).all(), (isa, threads)


@pytest.mark.parametrize("isa", TIERS)
def test_the_exponential_is_within_two_ulp(isa: str) -> None:
    x = np.linspace(-87.3, 88.3, 1_000_003).astype(np.float32)
    y = np.empty_like(x)
    _native.Backend(1, isa).exp(x, y)
    exact = np.exp(x.astype(np.float64))
    assert (np.abs(y - exact) <= 2 * np.spacing(exact.astype(np.float32))).all()


@pytest.mark.parametrize("isa", TIERS)
def test_the_exponential_of_the_odd_ones(isa: str) -> None:
    x = np.array([-np.inf, -1e30, -88.0, 0.0, np.nan, 200.0], np.float32)
    y = np.empty_like(x)
    _native.Backend(1, isa).exp(x, y)
    assert y[:4].tolist() == [0.0, 0.0, 0.0, 1.0]
    assert np.isnan(y[4])
    assert np.isfinite(y[5])
    assert y[5] > 2e38


def test_results_last_while_they_are_held_and_then_their_memory_is_used_again() -> None:
    ops = CpuOps(threads=2)
    x = normal(300, 1000)
    kept = [ops.add(x, np.full_like(x, i)) for i in range(6)]
    part = ops.add(x, x)[5:7].reshape(-1, 10)  # a view of a view holds it too
    ops.begin_step()
    others = [ops.silu_mul(x, x) for _ in range(6)]
    for i, result in enumerate(kept):
        np.testing.assert_array_equal(result, x + np.float32(i))
    np.testing.assert_array_equal(part.reshape(2, -1), (x + x)[5:7])
    held = {result.ctypes.data for result in kept}
    assert held.isdisjoint(other.ctypes.data for other in others)
    del kept, result
    assert {y.ctypes.data for y in [ops.add(x, x) for _ in range(6)]} == held


def test_a_long_chain_of_ops_lives_in_two_buffers() -> None:
    ops = CpuOps(threads=1)
    x, addresses = normal(64, 100), set()
    for _ in range(200):
        x = ops.add(x, x)
        addresses.add(x.ctypes.data)
    assert len(addresses) == 2
    assert all(address % 64 == 0 for address in addresses)


@pytest.mark.parametrize("threads", [1, 2, 4, 8])
def test_many_small_loops_end_with_more_threads_than_cpus(threads: int) -> None:
    ops = CpuOps(threads=threads)
    x = normal(3, 20000)
    for _ in range(300):
        ops.begin_step()
        y = ops.add(x, x)
    np.testing.assert_array_equal(y, x + x)


def test_ids_outside_their_table_are_refused(cpu_ops: CpuOps) -> None:
    data = random_weight("Q8_0", 20, 64, rng())
    for uses in ({"embed"}, {"embed", "linear"}):
        table = cpu_ops.load_quant("Q8_0", (20, 64), data, frozenset(uses))
        for bad in (-1, 20, 2**31 - 1):
            with pytest.raises(ValueError, match="token id"):
                cpu_ops.embed(table, ints(0, bad))
    for bad in (-1, 3):
        with pytest.raises(ValueError, match="row"):
            cpu_ops.take_rows(normal(3, 8), ints(bad))
    cache = cpu_ops.new_cache(PagedGroup(1, 1, 16), 2, 32)[0]
    for bad in (-1, 64):
        with pytest.raises(ValueError, match="slot"):
            cpu_ops.store_kv(normal(1, 1, 16), normal(1, 1, 16), cache, ints(bad))


def test_arrays_of_another_type_or_layout_are_never_converted(cpu_ops: CpuOps) -> None:
    good = normal(4, 32)
    for wrong in (good.astype(np.float64), good[:, ::2], good.T):
        with pytest.raises((TypeError, ValueError)):
            cpu_ops.rms_norm(wrong, normal(wrong.shape[1]), 1e-5)
    with pytest.raises(ValueError, match="shape"):
        cpu_ops.add(good, normal(4, 31))
    with pytest.raises(ValueError, match="weight"):
        cpu_ops.rms_norm(good, normal(31), 1e-5)
    with pytest.raises(TypeError):
        cpu_ops.take_rows(good, np.array([0], np.int64))
    with pytest.raises(ValueError, match="block_size"):
        cpu_ops.new_cache(PagedGroup(1, 1, 16), 2, 20)


def test_the_gated_gelu_is_the_one_with_a_tangent(reference_ops: Ops) -> None:
    x = np.linspace(-9, 9, 1001).astype(np.float32)[None]
    exact = x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x.astype(np.float64) ** 3)))
    np.testing.assert_allclose(reference_ops.gelu_mul(x, np.ones_like(x)), exact, rtol=3e-6, atol=1e-7)
