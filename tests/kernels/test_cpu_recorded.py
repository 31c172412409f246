"""A recorded pass is what Python would have called again: with what the step's index arrays hold then."""

import numpy as np
import pytest

from kernels.cpu.ops import CpuOps
from kernels.random_weights import random_weight
from kernels.recordings import Recordings

BOTH = frozenset({"linear", "embed"})


class Pass:
    """embed -> linears on a tied matrix: small, but it reads index arrays, a weight and earlier results."""

    def __init__(self, ops: CpuOps) -> None:
        self.ops = ops
        data = random_weight("IQ2_KT", 256, 256, np.random.default_rng(3))
        self.weight = ops.load_quant("IQ2_KT", (256, 256), data, BOTH)
        self.recordings = Recordings()
        self.n_computed = 0

    def run(self, ids: list[int], key: object = "key") -> np.ndarray:
        self.ops.begin_step()
        token_ids = self.ops.index_array(np.array(ids))
        return self.ops.recorded(self.recordings, key, lambda: self.compute(token_ids))

    def compute(self, token_ids: np.ndarray) -> np.ndarray:
        self.n_computed += 1
        x = self.ops.embed(self.weight, token_ids)
        gated = self.ops.gated_linear(x, self.weight, self.weight)
        return self.ops.linear_add(self.ops.add(gated, x), self.weight, x)

    def expected(self, ids: list[int]) -> np.ndarray:
        self.ops.begin_step()
        return self.compute(self.ops.index_array(np.array(ids))).copy()


@pytest.fixture(params=[1, 2], ids=["one plane", "two planes"])
def passes(request: pytest.FixtureRequest) -> Pass:
    return Pass(CpuOps(threads=2, planes=request.param))


def test_a_replay_computes_with_the_ids_of_its_own_step(passes: Pass) -> None:
    for ids in ([1, 2, 3], [200, 0, 255], [7, 7, 7]):
        np.testing.assert_array_equal(passes.run(ids), passes.expected(ids))
    assert passes.n_computed == 4  # one recording and the three expectations


def test_other_arrays_before_the_pass_mean_another_recording(passes: Pass) -> None:
    passes.run([1, 2])
    passes.ops.begin_step()
    passes.ops.index_array(np.arange(40))
    ids = passes.ops.index_array(np.array([5, 6]))  # not where it lay
    got = passes.ops.recorded(passes.recordings, "key", lambda: passes.compute(ids)).copy()
    np.testing.assert_array_equal(got, passes.expected([5, 6]))


def test_index_arrays_may_outgrow_their_memory_between_and_within_steps(passes: Pass) -> None:
    passes.run([1, 2])
    passes.ops.begin_step()
    before = passes.ops.index_array(np.arange(10))
    large = passes.ops.index_array(np.arange(1 << 20))
    np.testing.assert_array_equal(before, np.arange(10))
    np.testing.assert_array_equal(large, np.arange(1 << 20))
    for ids in ([9, 8], [3, 4]):
        np.testing.assert_array_equal(passes.run(ids), passes.expected(ids))


def test_a_replay_leaves_the_results_of_other_passes_alone(passes: Pass) -> None:
    passes.run([1, 2, 3])
    held = passes.ops.add(np.ones((3, 256), np.float32), np.ones((3, 256), np.float32))
    other = passes.run([4, 5, 6], key="another").copy()
    passes.run([1, 2, 3])
    assert (held == 2).all()
    np.testing.assert_array_equal(passes.run([4, 5, 6], key="another"), other)


def test_ids_are_checked_at_every_replay(passes: Pass) -> None:
    passes.run([1, 2])
    with pytest.raises(ValueError, match=r"token id 256 is outside 0 .. 255"):
        passes.run([1, 256])
    np.testing.assert_array_equal(passes.run([3, 4]), passes.expected([3, 4]))


def test_a_pass_that_fails_while_it_is_recorded_leaves_nothing_behind(passes: Pass) -> None:
    with pytest.raises(ValueError, match="outside"):
        passes.run([-1, 2])
    np.testing.assert_array_equal(passes.run([1, 2]), passes.expected([1, 2]))


def test_programs_are_recorded_one_at_a_time(passes: Pass) -> None:
    with pytest.raises(ValueError, match="being recorded already"):
        passes.ops.recorded(passes.recordings, "outer", lambda: passes.run([1], key="inner"))
