"""Recorded passes: each call has the effect of one run, and parts of the host are run again at each replay."""

import numpy as np
import pytest

from kernels.cuda.arena import DeviceArray
from kernels.cuda.ops import CudaOps
from kernels.ops import Ops
from kernels.recordings import Recordings


def on_device(ops: CudaOps, values: np.ndarray) -> DeviceArray:
    """An array that stays where it is, as caches do."""
    array = ops.load_vector(values)
    return DeviceArray(array.pointer, values.shape, array)


@pytest.fixture
def ops(cuda_ops: Ops) -> CudaOps:
    assert isinstance(cuda_ops, CudaOps)
    return cuda_ops


def test_every_call_has_the_effect_of_one_run(ops: CudaOps) -> None:
    """A pass that updates what it finds, as a recurrent state is updated: run, recorded, replayed."""
    state, one = on_device(ops, np.zeros((2, 5))), on_device(ops, np.ones((2, 5)))

    def compute() -> DeviceArray:
        total = ops.add(state, one)
        ops.device.copy(state.pointer, total.pointer, 40)
        return total

    recordings = Recordings()
    for n_runs in range(1, 6):
        ops.begin_step()
        result = ops.recorded(recordings, "key", compute)
        assert (ops.to_host(result) == n_runs).all()
        assert (ops.to_host(state) == n_runs).all()


def test_a_part_on_the_host_is_computed_anew_at_each_call(ops: CudaOps) -> None:
    """The device's part is done beside it. Every call has other inputs and gives what a plain pass would."""
    x = on_device(ops, np.zeros((3, 7)))
    calls: list[np.ndarray] = []

    def host(values: np.ndarray) -> np.ndarray:
        calls.append(values.copy())
        return np.concatenate([2 * values, values[:, :1]], axis=1)

    def compute() -> tuple[DeviceArray, DeviceArray]:
        doubled = ops.add(x, x)
        wide, beside = ops.beside(doubled, host, 8, lambda: ops.add(doubled, doubled))
        more, _ = ops.beside(ops.add(wide, wide), host, 9, lambda: None)
        return more, ops.add(beside, x)

    recordings = Recordings()
    for n in range(1, 6):
        values = np.random.default_rng(n).standard_normal((3, 7)).astype(np.float32)
        ops.begin_step()
        ops.device.upload(x.pointer, values)
        more, beside = ops.recorded(recordings, "key", compute)
        expected = 2 * np.concatenate([4 * values, 2 * values[:, :1]], axis=1)
        np.testing.assert_array_equal(
            ops.to_host(more), np.concatenate([2 * expected, expected[:, :1]], axis=1)
        )
        np.testing.assert_array_equal(ops.to_host(beside), 5 * values)
        assert len(calls) == 2 * n, "a recording runs no part of the host by itself"


def test_a_longer_pass_leaves_the_buffers_that_recordings_write_to(ops: CudaOps) -> None:
    """They are as large as the longest pass so far: a recording of a short one is replayed after a long one."""
    short, long = on_device(ops, np.ones((1, 4))), on_device(ops, np.ones((64, 4)))
    recordings = Recordings()

    def run(x: DeviceArray, key: str) -> np.ndarray:
        ops.begin_step()
        out, _ = ops.recorded(recordings, key, lambda: ops.beside(x, lambda v: v + 1, 4, lambda: None))
        return ops.to_host(out).copy()

    for key, x in [("short", short)] * 3 + [("long", long)] * 3 + [("short", short)]:
        assert (run(x, key) == 2).all()


def test_an_array_takes_the_side_that_others_leave() -> None:
    array = DeviceArray(0, (6, 4, 32), None)
    assert array.reshape(6, -1).shape == (6, 128)
    assert array.reshape(-1, 2, 16).shape == (24, 2, 16)
    with pytest.raises(AssertionError, match="does not become"):
        array.reshape(5, -1)
