"""Experts on the emulated GPU: the CPU backend's choice and its bits, for any number of tokens."""

from collections.abc import Iterator

import numpy as np
import pytest

from kernels import load_backend
from kernels.cpu.ops import CpuOps
from kernels.cuda.compile import DENSE_TYPES, TILED_TYPES
from kernels.cuda.ops import CudaOps
from kernels.expert_ops import Routed, Routing
from kernels.ops import Ops
from kernels.quant_tensor import TYPES
from kernels.random_weights import random_weight
from kernels.recordings import Recordings
from support.cuda_device import cuda_device
from support.routings import ROUTINGS
from tools.cuda_compile import STACKED_TYPES

N_EXPERT, N_USED, N_IN, N_FF = 5, 2, 256, 40  # a height that fills no tile
#: One that lies in tiles, one with a mean, one of file rows with minima, and floats.
QUICK = ("IQ2_KT", "IQ1_KT", "Q4_K", "F16")
#: What a stack adds is the same for every type, whose own kernels test_linear_kernels.py has.
STACK_TYPES = [
    pytest.param(name, marks=() if name in QUICK else pytest.mark.slow)
    for name in (*TILED_TYPES, *sorted(DENSE_TYPES), *STACKED_TYPES)
]


@pytest.fixture(scope="module")
def two_planes() -> Iterator[Ops]:
    with cuda_device():
        yield load_backend("cuda", planes=2)


def normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def on(ops: Ops, x: np.ndarray) -> object:
    """x as the operations of a pass have it."""
    return ops.load_vector(x).reshape(*x.shape) if isinstance(ops, CudaOps) else x


def ints(ops: Ops, x: object) -> np.ndarray:
    return ops.to_host(x).view(np.int32) if isinstance(ops, CudaOps) else np.asarray(x)


@pytest.mark.parametrize("biased", [False, True], ids=["without bias", "with bias"])
@pytest.mark.parametrize("name", ROUTINGS)
def test_the_router_gives_the_cpus_experts_and_weights(
    cpu_ops: Ops, cuda_ops: Ops, name: str, biased: bool
) -> None:
    """Equal scores, a token whose logits are not finite, and scores that a bias makes NaN are among them."""
    rng = np.random.default_rng(len(name))
    logits = normal(rng, 20, 40)
    logits[3, 7:20] = logits[3, 7]
    logits[5, 9] = np.nan
    logits[6, 2] = np.inf
    bias = normal(rng, 40) if biased else None
    expected = cpu_ops.route(logits, bias, ROUTINGS[name])
    cuda_ops.begin_step()
    got = cuda_ops.route(on(cuda_ops, logits), None if bias is None else on(cuda_ops, bias), ROUTINGS[name])
    np.testing.assert_array_equal(ints(cuda_ops, got.experts), expected.experts)
    np.testing.assert_array_equal(
        cuda_ops.to_host(got.weights).view(np.uint32)[[0, 3, 4, 19]],
        expected.weights.view(np.uint32)[[0, 3, 4, 19]],
    )
    np.testing.assert_array_equal(cuda_ops.to_host(got.weights), expected.weights)


def test_groups_whose_sums_are_no_numbers_give_experts_that_exist(cpu_ops: Ops, cuda_ops: Ops) -> None:
    """Finite logits and biases overflow to infinite scores of both signs, in one group and in every one."""
    routing = Routing("softmax_chosen", 4, n_group=4, n_group_used=2)
    large = np.float32(3e38)
    for row in ([large, -large, 0, 1, 2, 3, 4, 5], [large, -large] * 4):
        bias = np.array(row, np.float32)
        expected = cpu_ops.route(bias[None], bias, routing)
        cuda_ops.begin_step()
        got = cuda_ops.route(on(cuda_ops, bias[None]), on(cuda_ops, bias), routing)
        np.testing.assert_array_equal(ints(cuda_ops, got.experts), expected.experts)


def through(ops: Ops, type_name: str, n_tokens: int) -> list[np.ndarray]:
    """Experts with most tokens at one of them, and heads: gated products, the weighted sum, each head's."""
    rng = np.random.default_rng(n_tokens)
    narrow = type_name if TYPES[type_name].row_multiple <= 32 else "Q8_0"  # what rows of 32 can be
    gate, up = (
        ops.load_stack(
            type_name, (N_EXPERT, N_FF, N_IN), random_weight(type_name, N_EXPERT * N_FF, N_IN, rng)
        )
        for _ in range(2)
    )
    down = ops.load_stack(
        narrow, (N_EXPERT, 33, N_FF - 8), random_weight(narrow, N_EXPERT * 33, N_FF - 8, rng)
    )
    logits = normal(rng, n_tokens, N_EXPERT)
    logits[: n_tokens // 2, 3] += 9
    x, h = normal(rng, n_tokens, N_IN), normal(rng, n_tokens, N_USED, N_FF - 8)
    residual, heads = normal(rng, n_tokens, 33), normal(rng, n_tokens, N_EXPERT, N_IN)
    ops.begin_step()
    routed = ops.route(on(ops, logits), None, Routing("softmax", N_USED, normalize=True))
    results = [
        ops.gated_experts(on(ops, x), gate, up, routed),
        ops.experts_sum(on(ops, h), down, routed, on(ops, residual)),
        ops.linear_heads(on(ops, heads), gate),
    ]
    return [np.array(ops.to_host(result)) for result in results]


@pytest.mark.parametrize("n_tokens", [1, 3, 41])
@pytest.mark.parametrize("type_name", STACK_TYPES)
def test_products_through_a_stack_are_the_cpus(
    cpu_ops: Ops, cuda_ops: Ops, type_name: str, n_tokens: int
) -> None:
    """One row a matrix, a few, and enough for the kernel that takes 64 at once."""
    for got, expected in zip(
        through(cuda_ops, type_name, n_tokens), through(cpu_ops, type_name, n_tokens), strict=True
    ):
        assert (got.view(np.uint32) == expected.view(np.uint32)).all()


@pytest.mark.parametrize("type_name", ["IQ2_KT", "F16"])
def test_two_planes_of_activations_are_the_cpus(two_planes: Ops, type_name: str) -> None:
    cpu = CpuOps(threads=2, planes=2)
    for got, expected in zip(through(two_planes, type_name, 4), through(cpu, type_name, 4), strict=True):
        assert (got.view(np.uint32) == expected.view(np.uint32)).all()


def test_a_recorded_pass_follows_other_choices_than_it_was_recorded_with(cpu_ops: Ops, cuda_ops: Ops) -> None:
    """The host knows no expert: a replay sorts the rows of its own choice."""
    assert isinstance(cuda_ops, CudaOps)
    rng, recordings = np.random.default_rng(2), Recordings()
    shape = (N_EXPERT, N_FF, N_IN)
    data = random_weight("IQ2_KT", N_EXPERT * N_FF, N_IN, rng)
    gate, on_cpu = cuda_ops.load_stack("IQ2_KT", shape, data), cpu_ops.load_stack("IQ2_KT", shape, data)
    x, logits = on(cuda_ops, normal(rng, 4, N_IN)), on(cuda_ops, normal(rng, 4, N_EXPERT))
    routing = Routing("softmax", N_USED)
    for _ in range(4):
        new_x, new_logits = normal(rng, 4, N_IN), normal(rng, 4, N_EXPERT)
        cuda_ops.begin_step()
        for array, values in ((x, new_x), (logits, new_logits)):
            cuda_ops.device.upload(array.pointer, values)  # type: ignore[attr-defined]

        def compute() -> object:
            routed: Routed = cuda_ops.route(logits, None, routing)
            return cuda_ops.gated_experts(x, gate, gate, routed)

        got = cuda_ops.to_host(cuda_ops.recorded(recordings, "key", compute))
        expected = cpu_ops.gated_experts(new_x, on_cpu, on_cpu, cpu_ops.route(new_logits, None, routing))
        assert (got.view(np.uint32) == expected.view(np.uint32)).all()
