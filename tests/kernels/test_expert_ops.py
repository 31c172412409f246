"""Operations on stacks of matrices: the reference says which experts and which bits; the CPU gives them in any batch.

Weights of a router may differ in the last bits where an exponential does: NumPy's is not the kernels'.
"""

from functools import cache
from typing import Any, NamedTuple

import numpy as np
import pytest

from kernels.cpu import _native
from kernels.cpu.ops import CpuOps
from kernels.expert_ops import Routed, Routing
from kernels.quant_tensor import TYPES
from kernels.random_weights import random_weight
from kernels.recordings import Recordings
from kernels.reference.fma import fma32
from kernels.reference.linear import linear_int8
from kernels.reference.ops import ReferenceOps
from support.routings import ROUTINGS

TIERS = _native.isa_tiers()
N_EXPERT = 6
#: Two or three tokens of an expert, groups of columns that are just full and one more, and a whole prompt.
BATCHES = (1, 2, 3, 7, 40)


@pytest.fixture(scope="module", params=TIERS)
def tier_ops(request: pytest.FixtureRequest) -> CpuOps:
    return CpuOps(threads=2, isa=request.param)


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and bool((a.view(np.uint32) == b.view(np.uint32)).all())


def normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


# The router


@pytest.mark.parametrize("biased", [False, True], ids=["without bias", "with bias"])
@pytest.mark.parametrize("name", ROUTINGS)
def test_the_router_chooses_as_the_reference(
    tier_ops: CpuOps, reference_ops: ReferenceOps, name: str, biased: bool
) -> None:
    """The weights: an exponential within 2 ulp in each of the sum's terms, and a division."""
    rng = np.random.default_rng(5)
    logits = normal(rng, 300, 40)
    bias = normal(rng, 40) if biased else None
    expected = reference_ops.route(logits, bias, ROUTINGS[name])
    got = tier_ops.route(logits, bias, ROUTINGS[name])
    np.testing.assert_array_equal(got.experts, expected.experts)
    np.testing.assert_allclose(got.weights, expected.weights, rtol=1e-6)


@pytest.mark.parametrize("name", ROUTINGS)
def test_every_tier_gives_the_same_weights_and_a_token_the_same_in_any_batch(name: str) -> None:
    rng = np.random.default_rng(6)
    logits, bias = normal(rng, 70, 40), normal(rng, 40)
    expected = CpuOps(threads=1, isa="scalar").route(logits, bias, ROUTINGS[name])
    for isa in TIERS:
        ops = CpuOps(threads=3, isa=isa)
        assert same_bits(ops.route(logits, bias, ROUTINGS[name]).weights, expected.weights)
        for token in (0, 69):
            alone = ops.route(logits[token : token + 1], bias, ROUTINGS[name])
            assert same_bits(alone.weights[0], expected.weights[token])
            np.testing.assert_array_equal(alone.experts[0], expected.experts[token])


@pytest.fixture(params=["reference", *TIERS])
def routers(request: pytest.FixtureRequest) -> Any:
    return ReferenceOps() if request.param == "reference" else CpuOps(threads=2, isa=request.param)


@pytest.mark.parametrize("gating", ["softmax", "sigmoid", "softmax_chosen"])
def test_equal_scores_go_to_the_lower_expert_and_the_lower_group(routers: Any, gating: str) -> None:
    logits = np.array([[1, 3, 3, 0, 3, 1, 1, 3]], np.float32)
    assert routers.route(logits, None, Routing(gating, 5)).experts.tolist() == [[1, 2, 4, 7, 0]]
    groups = Routing(gating, 2, n_group=4, n_group_used=2)  # the pairs' sums: low, middle, middle, middle
    logits = np.array([[0, 0, 3, 0, 0, 3, 3, 0]], np.float32)
    assert routers.route(logits, None, groups).experts.tolist() == [[2, 5]]


def test_the_bias_chooses_and_does_not_weigh(routers: Any) -> None:
    logits = np.array([[2, 1, 0, -1]], np.float32)
    bias = np.array([0, 0, 0, 10], np.float32)
    routed = routers.route(logits, bias, Routing("sigmoid", 2))
    assert routed.experts.tolist() == [[3, 0]]
    np.testing.assert_allclose(routed.weights, 1 / (1 + np.exp([[1.0, -2.0]])), rtol=1e-6)


def test_a_group_is_as_good_as_its_two_best(routers: Any) -> None:
    """Group 0 has the best expert, group 1 the best pair; a bias of NaN makes an expert the last."""
    logits = np.array([[5, -9, 3, 3, 0, 0]], np.float32)
    routing = Routing("softmax_chosen", 2, n_group=3, n_group_used=1)
    assert routers.route(logits, None, routing).experts.tolist() == [[2, 3]]
    bias = np.array([0, 0, np.nan, 0, 0, 0], np.float32)
    assert routers.route(logits, bias, Routing("softmax_chosen", 6)).experts.tolist() == [[0, 3, 4, 5, 1, 2]]


def test_a_group_whose_sum_is_no_number_is_the_worst(routers: Any) -> None:
    """Finite logits and biases give infinite scores of both signs where they overflow; equal groups go by number."""
    routing = Routing("softmax_chosen", 4, n_group=4, n_group_used=2)
    large = np.float32(3e38)
    one = np.array([[large, -large, 0, 1, 2, 3, 4, 5]], np.float32)
    with np.errstate(over="ignore"):
        assert routers.route(one, one[0], routing).experts.tolist() == [[7, 6, 5, 4]]
        every = np.array([[large, -large] * 4], np.float32)
        assert routers.route(every, every[0], routing).experts.tolist() == [[0, 2, 1, 3]]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ROUTINGS)
def test_a_token_whose_logits_are_not_finite_gets_weights_of_nan_alone(
    routers: Any, name: str, bad: float
) -> None:
    rng = np.random.default_rng(7)
    logits = normal(rng, 3, 40)
    expected = Routed(*(part.copy() for part in routers.route(logits, None, ROUTINGS[name])))
    logits[1, 17] = bad
    got = routers.route(logits, None, ROUTINGS[name])
    assert got.experts[1].tolist() == list(range(ROUTINGS[name].n_used))
    assert np.isnan(got.weights[1]).all()
    for token in (0, 2):
        np.testing.assert_array_equal(got.experts[token], expected.experts[token])
        assert same_bits(got.weights[token], expected.weights[token])


def test_weights_that_add_up_to_nothing_stay_nothing(routers: Any) -> None:
    """The kernels' exponential ends at the largest float, so a sigmoid may be 4e-39 where NumPy's is 0."""
    logits = np.full((1, 8), -200, np.float32)
    routed = routers.route(logits, None, Routing("sigmoid", 2, normalize=True))
    np.testing.assert_allclose(routed.weights, 0, atol=1e-18)


@pytest.mark.parametrize(
    ("routing", "reason"),
    [
        (Routing("sqrt_softplus", 2), "no gating 'sqrt_softplus'; there are softmax"),
        (Routing("softmax", 0), "0 of 8 experts"),
        (Routing("softmax", 9), "9 of 8 experts"),
        (Routing("softmax", 2, n_group=3), "8 experts do not make 3 equal groups"),
        (Routing("softmax", 2, n_group=4, n_group_used=5), "5 of 4 groups"),
        (Routing("softmax", 5, n_group=4, n_group_used=2), "no more than 4"),
    ],
)
def test_a_routing_that_does_not_fit_is_refused(routers: Any, routing: Routing, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        routers.route(np.zeros((1, 8), np.float32), None, routing)


# Products


class Case(NamedTuple):
    """Experts of one type, and what the reference makes of 40 tokens."""

    shape: tuple[int, int, int]  # of each stack
    gate: np.ndarray
    up: np.ndarray
    down: np.ndarray
    x: np.ndarray
    routed: Routed
    products: tuple[np.ndarray, np.ndarray]  # gate_e x and up_e x [40, n_used, n_ff]
    h: np.ndarray  # what goes through down: random, so that it does not depend on an exponential
    residual: np.ndarray
    expected: np.ndarray


#: Columns by the type's row multiple: odd multiples of 32 where it allows them. Rows leave the last tile part full.
COLUMNS = {1: 45, 32: 288, 256: 256}
N_ROWS = 21


@cache
def case(type_name: str, planes: int) -> Case:
    rng = np.random.default_rng([3, planes, *type_name.encode()])
    n_in = COLUMNS[TYPES[type_name].row_multiple]
    gate, up, down = (random_weight(type_name, N_EXPERT * N_ROWS, n_in, rng) for _ in range(3))
    x = normal(rng, max(BATCHES), n_in)
    experts = np.stack([rng.permutation(N_EXPERT)[:3] for _ in x]).astype(np.int32)
    experts[5:30, 0], experts[5:30, 1] = 4, 2  # two that almost everybody chose
    experts[5:30, 2] = rng.choice([0, 1, 3], 25)
    routed = Routed(experts, normal(rng, *experts.shape))
    h, residual = normal(rng, *experts.shape, n_in), normal(rng, len(x), N_ROWS)
    rows = x[:, None].repeat(3, axis=1)
    products = (each(rows, gate, type_name, routed, planes), each(rows, up, type_name, routed, planes))
    total = np.zeros_like(residual)
    of_down = each(h, down, type_name, routed, planes)
    for slot in range(3):
        total = fma32(routed.weights[:, slot, None], of_down[:, slot], total)
    return Case((N_EXPERT, N_ROWS, n_in), gate, up, down, x, routed, products, h, residual, residual + total)


def each(rows: np.ndarray, data: np.ndarray, type_name: str, routed: Routed, planes: int) -> np.ndarray:
    """Every row [n_tokens, n_used, n_in] through its expert: linear_int8."""
    out = np.empty((*rows.shape[:2], N_ROWS), np.float32)
    for expert, matrix in enumerate(data.reshape(N_EXPERT, -1)):
        chosen = routed.experts == expert
        out[chosen] = linear_int8(rows[chosen], type_name, matrix, N_ROWS, planes)
    return out


def first(routed: Routed, n: int) -> Routed:
    return Routed(routed.experts[:n].copy(), routed.weights[:n].copy())


#: A trellis type of each width, one with tails, one with minimums, one with halves, and floats.
ONE_PLANE = ("IQ1_KT", "IQ2_KT", "IQ3_KT", "IQ4_KT", "IQ4_KT_V1", "Q4_K", "Q6_K", "IQ4_NL", "F16", "F32")
TWO_PLANES = ("IQ2_KT", "IQ3_KT", "Q4_K", "F16")


@pytest.mark.parametrize(
    ("type_name", "planes"), [(name, 1) for name in ONE_PLANE] + [(name, 2) for name in TWO_PLANES]
)
def test_experts_are_the_references_bit_for_bit_in_any_company(type_name: str, planes: int) -> None:
    data = case(type_name, planes)
    for isa in TIERS:
        ops = CpuOps(threads=2, isa=isa, planes=planes)
        gate, up = (ops.load_stack(type_name, data.shape, stack) for stack in (data.gate, data.up))
        down = ops.load_stack(type_name, data.shape, data.down)
        expected = ops.silu_mul(*data.products)
        for batch in BATCHES:
            routed = first(data.routed, batch)
            h = ops.gated_experts(data.x[:batch].copy(), gate, up, routed)
            assert same_bits(h, expected[:batch]), f"{isa}, the first {batch}"
            out = ops.experts_sum(data.h[:batch].copy(), down, routed, data.residual[:batch].copy())
            assert same_bits(out, data.expected[:batch]), f"{isa}, the first {batch}"


def test_the_reference_is_what_its_products_say(reference_ops: ReferenceOps) -> None:
    data = case("IQ3_KT", 1)
    gate, up = (reference_ops.load_stack("IQ3_KT", data.shape, stack) for stack in (data.gate, data.up))
    down = reference_ops.load_stack("IQ3_KT", data.shape, data.down)
    routed = first(data.routed, 7)
    h = reference_ops.gated_experts(data.x[:7], gate, up, routed)
    assert same_bits(h, reference_ops.silu_mul(*data.products)[:7])
    assert same_bits(
        reference_ops.experts_sum(data.h[:7], down, routed, data.residual[:7]), data.expected[:7]
    )


def test_any_token_alone_and_any_order_of_tokens_give_the_same_bits(tier_ops: CpuOps) -> None:
    data = case("IQ2_KT", 1)
    gate, up = (tier_ops.load_stack("IQ2_KT", data.shape, stack) for stack in (data.gate, data.up))
    expected = tier_ops.gated_experts(data.x, gate, up, data.routed).copy()
    order = np.random.default_rng(8).permutation(len(data.x))
    routed = Routed(data.routed.experts[order], data.routed.weights[order])
    assert same_bits(tier_ops.gated_experts(data.x[order], gate, up, routed), expected[order])
    for token in range(len(data.x)):
        routed = Routed(*(part[token : token + 1].copy() for part in data.routed))
        alone = tier_ops.gated_experts(data.x[token : token + 1].copy(), gate, up, routed)
        assert same_bits(alone[0], expected[token])


@pytest.mark.parametrize("types", [("IQ2_KT", "Q4_K"), ("F16", "IQ3_KT"), ("IQ4_KT", "BF16")])
def test_gate_and_up_may_be_of_two_types(tier_ops: CpuOps, types: tuple[str, str]) -> None:
    rng = np.random.default_rng(9)
    files = [random_weight(name, 4 * 20, 256, rng) for name in types]
    x, experts = normal(rng, 5, 256), rng.integers(0, 4, (5, 2)).astype(np.int32)
    cpu, plain = (
        [ops.load_stack(name, (4, 20, 256), data) for name, data in zip(types, files, strict=True)]
        for ops in (tier_ops, ReferenceOps())
    )
    routed = Routed(experts, np.ones((5, 2), np.float32))
    np.testing.assert_allclose(  # an exponential within 2 ulp, and three roundings
        tier_ops.gated_experts(x, *cpu, routed), ReferenceOps().gated_experts(x, *plain, routed), rtol=2e-6
    )


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_do_not_change_a_bit_where_every_token_chose_one_expert(threads: int) -> None:
    rng = np.random.default_rng(10)
    data = random_weight("IQ2_KT", 3 * 130, 512, rng)
    x = normal(rng, 33, 512)
    ops = CpuOps(threads=threads)
    stack = ops.load_stack("IQ2_KT", (3, 130, 512), data)
    routed = Routed(np.ones((33, 1), np.int32), np.ones((33, 1), np.float32))
    product = linear_int8(x, "IQ2_KT", data.reshape(3, -1)[1], 130)
    assert same_bits(ops.gated_experts(x, stack, stack, routed)[:, 0], ops.silu_mul(product, product))


def test_an_expert_may_stand_in_two_slots_of_a_token(tier_ops: CpuOps, reference_ops: ReferenceOps) -> None:
    rng = np.random.default_rng(11)
    data, x = random_weight("Q8_0", 2 * 18, 64, rng), normal(rng, 3, 2, 64)
    routed = Routed(np.array([[1, 1], [0, 1], [1, 1]], np.int32), normal(rng, 3, 2))
    residual = normal(rng, 3, 18)
    got, expected = (
        ops.experts_sum(x, ops.load_stack("Q8_0", (2, 18, 64), data), routed, residual)
        for ops in (tier_ops, reference_ops)
    )
    assert same_bits(got, expected)


@pytest.mark.parametrize("n_tokens", [1, 5, 30])
@pytest.mark.parametrize("type_name", ["IQ4_NL", "Q8_0", "IQ3_KT", "F16"])
def test_heads_go_through_their_own_matrices(
    tier_ops: CpuOps, reference_ops: ReferenceOps, type_name: str, n_tokens: int
) -> None:
    rng = np.random.default_rng(12)
    data, x = random_weight(type_name, 3 * 25, 192, rng), normal(rng, n_tokens, 3, 192)
    got, expected = (
        ops.linear_heads(x, ops.load_stack(type_name, (3, 25, 192), data))
        for ops in (tier_ops, reference_ops)
    )
    assert same_bits(got, expected)


def test_a_token_that_is_not_finite_fails_alone(tier_ops: CpuOps) -> None:
    data = case("IQ2_KT", 1)
    down = tier_ops.load_stack("IQ2_KT", data.shape, data.down)
    h, weights = data.h.copy(), data.routed.weights.copy()
    h[6, 1, 3], weights[8, 2] = np.inf, np.nan
    out = tier_ops.experts_sum(h, down, Routed(data.routed.experts, weights), data.residual)
    assert np.isnan(out[[6, 8]]).all()
    others = [token for token in range(len(h)) if token not in (6, 8)]
    assert same_bits(out[others], data.expected[others])


# Recorded passes, and what is refused


class ExpertPass:
    """embed -> router -> experts on a few rows, as a program."""

    def __init__(self) -> None:
        rng = np.random.default_rng(13)
        self.ops = CpuOps(threads=2)
        uses = frozenset({"linear", "embed"})
        self.table = self.ops.load_quant("F32", (50, 256), random_weight("F32", 50, 256, rng, 1.0), uses)
        self.router = self.ops.load_quant("F32", (16, 256), random_weight("F32", 16, 256, rng, 1.0), uses)
        self.stack = self.ops.load_stack("IQ2_KT", (16, 256, 256), random_weight("IQ2_KT", 4096, 256, rng))
        self.recordings = Recordings()

    def run(self, ids: list[int], recorded: bool) -> np.ndarray:
        self.ops.begin_step()
        token_ids = self.ops.index_array(np.array(ids))
        if not recorded:
            return self.compute(token_ids).copy()
        return self.ops.recorded(self.recordings, "key", lambda: self.compute(token_ids)).copy()

    def compute(self, token_ids: np.ndarray) -> np.ndarray:
        x = self.ops.embed(self.table, token_ids)
        routed = self.ops.route(self.ops.linear(x, self.router), None, Routing("softmax", 4, normalize=True))
        h = self.ops.gated_experts(x, self.stack, self.stack, routed)
        return self.ops.experts_sum(h, self.stack, routed, x)


def test_a_replay_chooses_the_experts_of_its_own_tokens() -> None:
    experts = ExpertPass()
    for ids in ([1, 2, 3], [40, 0, 9], [7, 7, 7]):
        assert same_bits(experts.run(ids, recorded=True), experts.run(ids, recorded=False))


def test_experts_outside_the_stack_are_refused(cpu_ops: CpuOps, reference_ops: ReferenceOps) -> None:
    for ops in (cpu_ops, reference_ops):
        stack = ops.load_stack("Q8_0", (4, 64, 64), random_weight("Q8_0", 256, 64, np.random.default_rng(0)))
        for bad in (-1, 4, 2**31 - 1):
            routed = Routed(np.array([[0, bad]], np.int32), np.ones((1, 2), np.float32))
            with pytest.raises(ValueError, match=r"outside 0 .. 3"):
                ops.gated_experts(np.zeros((1, 64), np.float32), stack, stack, routed)
            with pytest.raises(ValueError, match=r"outside 0 .. 3"):
                ops.experts_sum(
                    np.zeros((1, 2, 64), np.float32), stack, routed, np.zeros((1, 64), np.float32)
                )


def test_shapes_that_do_not_fit_are_refused_before_any_kernel_runs(cpu_ops: CpuOps) -> None:
    rng = np.random.default_rng(0)
    stack = cpu_ops.load_stack("Q8_0", (4, 32, 64), random_weight("Q8_0", 128, 64, rng))
    other = cpu_ops.load_stack("Q8_0", (3, 32, 64), random_weight("Q8_0", 96, 64, rng))
    routed = Routed(np.zeros((2, 3), np.int32), np.zeros((2, 3), np.float32))

    def zeros(*shape: int) -> np.ndarray:
        return np.zeros(shape, np.float32)

    with pytest.raises(ValueError, match="gated_experts: x is"):
        cpu_ops.gated_experts(zeros(2, 32), stack, stack, routed)
    with pytest.raises(ValueError, match="gated_experts: x is"):
        cpu_ops.gated_experts(zeros(2, 64), stack, other, routed)
    with pytest.raises(ValueError, match="experts is"):
        cpu_ops.gated_experts(zeros(3, 64), stack, stack, routed)
    with pytest.raises(ValueError, match="experts_sum: h is"):
        cpu_ops.experts_sum(zeros(2, 3, 32), stack, routed, zeros(2, 32))
    with pytest.raises(ValueError, match="experts_sum: h is"):
        cpu_ops.experts_sum(zeros(2, 2, 64), stack, routed, zeros(2, 32))
    with pytest.raises(ValueError, match="out is"):
        cpu_ops.experts_sum(zeros(2, 3, 64), stack, routed, zeros(2, 31))
    with pytest.raises(ValueError, match="weights"):
        cpu_ops.experts_sum(zeros(2, 3, 64), stack, routed._replace(weights=zeros(2, 2)), zeros(2, 32))
    with pytest.raises(ValueError, match="linear_heads: x is"):
        cpu_ops.linear_heads(zeros(2, 5, 64), stack)
    with pytest.raises(ValueError, match="bias"):
        cpu_ops.route(zeros(2, 4), zeros(5), Routing("softmax", 2))
    with pytest.raises(TypeError):
        cpu_ops.gated_experts(zeros(2, 64), stack, stack, routed._replace(experts=np.zeros((2, 3), np.int64)))


@pytest.mark.parametrize(
    "shape", [(0, 32, 64), (4, 0, 64), (4, 32, 48), (4, 32, 0), (3, 32, 64), (-4, -32, 64)]
)
def test_a_stack_whose_bytes_do_not_fit_is_refused(cpu_ops: CpuOps, shape: tuple[int, int, int]) -> None:
    data = random_weight("Q8_0", 128, 64, np.random.default_rng(0))
    for ops in (cpu_ops, ReferenceOps()):
        with pytest.raises(ValueError):  # noqa: PT011 - each has words of its own
            ops.load_stack("Q8_0", shape, data)


def test_no_tokens_are_no_work(cpu_ops: CpuOps) -> None:
    stack = cpu_ops.load_stack("Q8_0", (4, 64, 64), random_weight("Q8_0", 256, 64, np.random.default_rng(0)))
    routed = cpu_ops.route(np.zeros((0, 4), np.float32), None, Routing("softmax", 2))
    h = cpu_ops.gated_experts(np.zeros((0, 64), np.float32), stack, stack, routed)
    assert h.shape == (0, 2, 64)
    assert cpu_ops.experts_sum(h, stack, routed, np.zeros((0, 64), np.float32)).shape == (0, 64)
