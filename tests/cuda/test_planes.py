"""Two planes of activations: the reference's bits from the kernels that one plane has, in any thread order."""

from collections.abc import Iterator

import numpy as np
import pytest

from kernels import load_backend
from kernels.cuda.compile import TILED_TYPES
from kernels.ops import Ops
from kernels.random_weights import random_weight
from kernels.reference.linear import linear_int8
from support.cuda_device import ORDERS, cuda_device, generator, thread_order
from support.sequences import on, same_bits

LINEAR = frozenset({"linear"})
#: Weights in tiles, as file rows of each shape of block, with minimums, and floats, which have no planes.
TYPES = (*TILED_TYPES, "Q8_0", "Q4_K", "IQ3_S", "IQ4_KT_V1", "F16")


@pytest.fixture(scope="module")
def cuda_ops() -> Iterator[Ops]:
    with cuda_device():
        yield load_backend("cuda", planes=2)


def activations(n_tokens: int, n_in: int, rng: np.random.Generator) -> np.ndarray:
    """Rows of different sizes, a zero block, outliers, and values of which a first plane leaves little."""
    x = rng.standard_normal((n_tokens, n_in)).astype(np.float32)
    x *= np.float32(10.0) ** rng.integers(-3, 4, (n_tokens, 1)).astype(np.float32)
    x[:, 32:64] = 0
    x[::3, 5] *= 100
    x[:, 64:96] = np.rint(x[:, 64:96])
    return x


@pytest.mark.parametrize("type_name", TYPES)
def test_gives_the_references_bits_in_any_thread_order(cuda_ops: Ops, type_name: str) -> None:
    rng = generator(type_name, "planes")
    data = random_weight(type_name, 37, 512, rng)
    weight = cuda_ops.load_quant(type_name, (37, 512), data, LINEAR)
    x = activations(35, 512, rng)
    expected = linear_int8(x, type_name, data, 37, planes=2)
    for n in (1, 3, 35):  # products of 2, 6 and 70 rows: each kind of kernel
        for order in ORDERS:
            with thread_order(order):
                cuda_ops.begin_step()
                got = cuda_ops.to_host(cuda_ops.linear(on(cuda_ops, x[:n].copy()), weight))
                assert same_bits(got, expected[:n]), (n, order)


@pytest.mark.parametrize(
    "types", [("IQ2_KT", "IQ2_KT"), ("IQ2_KT", "Q4_K"), ("F16", "IQ3_KT"), ("F16", "F16")]
)
@pytest.mark.parametrize("n_tokens", [1, 3, 40])
def test_a_feed_forward_network_of_any_types_is_the_cpus(
    cuda_ops: Ops, types: tuple[str, str], n_tokens: int
) -> None:
    """Norm, gate and up, silu, down with the residual: what a norm or a gate leaves as int8 is one plane, not two."""
    rng = generator(*types, n_tokens, "network")
    shapes = {"gate": (64, 256), "up": (64, 256), "down": (256, 64)}
    names = dict(zip(shapes, (*types, "Q8_0"), strict=True))
    files = {part: random_weight(names[part], *shape, rng) for part, shape in shapes.items()}
    x, norm = activations(n_tokens, 256, rng), rng.standard_normal(256).astype(np.float32)
    results = []
    for ops in (load_backend("cpu", threads=2, planes=2), cuda_ops):
        ops.begin_step()
        gate, up, down = (
            ops.load_quant(names[part], shape, files[part], LINEAR) for part, shape in shapes.items()
        )
        inner = ops.rms_norm(on(ops, x), ops.load_vector(norm), 1e-5)
        left, right = ops.linear_many(inner, (gate, up))
        together = ops.gated_linear(inner, gate, up)
        apart = ops.to_host(ops.silu_mul(left, right)).copy()
        assert same_bits(ops.to_host(together).copy(), apart)
        results.append(np.array(ops.to_host(ops.linear_add(together, down, on(ops, x)))))
    assert same_bits(*results)


def test_a_token_that_is_not_finite_fails_alone(cuda_ops: Ops) -> None:
    rng = generator("not finite")
    data = random_weight("IQ2_KT", 20, 256, rng)
    weight = cuda_ops.load_quant("IQ2_KT", (20, 256), data, LINEAR)
    x = rng.standard_normal((4, 256)).astype(np.float32)
    expected = linear_int8(x, "IQ2_KT", data, 20, planes=2)
    x[2, 77] = np.inf
    cuda_ops.begin_step()
    got = cuda_ops.to_host(cuda_ops.linear(on(cuda_ops, x), weight))
    assert np.isnan(got[2]).all()
    assert same_bits(got[[0, 1, 3]], expected[[0, 1, 3]])


def test_a_launch_quantizes_both_planes_once_for_all_matrices(cuda_ops: Ops) -> None:
    rng = generator("launches")
    data = random_weight("IQ2_KT", 64, 256, rng)
    weights = [cuda_ops.load_quant("IQ2_KT", (64, 256), data, LINEAR) for _ in range(3)]
    x = on(cuda_ops, rng.standard_normal((1, 256)).astype(np.float32))
    with cuda_ops.device.logged() as launches:  # type: ignore[attr-defined]
        cuda_ops.linear_many(x, weights)
    names = [launch.kernel for launch in launches]
    assert names == ["quantize_planes", "kt_dmmv_8_narrow", *["add_planes"] * 3]
