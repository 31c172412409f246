"""Every kernel that multiplies gives the bits of `linear_int8`: any type, batch size and ragged shape, any order."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from kernels.cuda import linear_forms
from kernels.cuda.compile import TAILED_TYPES, TILED_TYPES
from kernels.cuda.linear_forms import (
    DMMV_1,
    DMMV_1_NARROW,
    DMMV_8,
    DMMV_8_NARROW,
    DMMV_DP4A,
    MATMUL,
    PLAIN,
    LinearForm,
    form_for,
)
from kernels.cuda.weights import DeviceMatrix
from kernels.ops import Ops
from kernels.quant_tensor import TYPES
from kernels.random_weights import random_weight
from kernels.reference.formats import DENSE, dequantize
from kernels.reference.linear import linear_int8
from support.cuda_device import ORDERS, generator, thread_order
from support.sequences import on

LINEAR, EMBED = frozenset({"linear"}), frozenset({"embed"})
QUANTIZED = [name for name in TYPES if name not in DENSE]
N_OUT = 37  # two row tiles of 16 and part of a third; more than the 32 rows of one block of threads
#: Of a form: one token, its last whole group cut short, and for the matmul more than one group of columns.
BATCHES = {
    **dict.fromkeys((DMMV_1, DMMV_1_NARROW, DMMV_DP4A), (1,)),
    **dict.fromkeys((DMMV_8, DMMV_8_NARROW), (1, 5, 8)),
    **{PLAIN: (1, 3), MATMUL: (2, 67)},
}
FORMS = [(name, form) for name in QUANTIZED for form in (BATCHES if name in TILED_TYPES else (PLAIN, MATMUL))]
#: What CUDA adds to kernels/common depends on these properties of a type: one type of each kind. A type takes
#: a second to compile for the emulation, so the others are in `make test-slow`; CPU tests decode every type.
QUICK_TYPES = frozenset(
    {
        *TILED_TYPES,
        *("Q4_0", "MXFP4"),  # blocks of 32 with a factor: float16, exponent
        *("Q4_1", "Q4_K"),  # a minimum: a float16, integers
        *("IQ3_S", "Q6_K", "IQ4_K"),  # one scale a 32-block, two signed ones
        *(
            "IQ4_KS",
            "IQ2_KS",
            "Q8_KV",
            "IQ1_S_32",
            "IQ1_M_32",
        ),  # row headers: float32, float16, two fields, scales in dots
        *("IQ2_KT_V1", "IQ4_KT_V1"),  # weights of 16 bits; a mean
        *DENSE,
    }
)


def slow_unless_quick(type_name: str, *values: object) -> Any:
    """A test's parameters, type_name first."""
    marks = () if type_name in QUICK_TYPES else (pytest.mark.slow,)
    return pytest.param(type_name, *values, marks=marks, id="-".join((type_name, *map(shown, values))))


def shown(value: object) -> str:
    return value.kernel if isinstance(value, LinearForm) else str(value)


def width(type_name: str) -> int:
    """Columns that fill no group of 256 where the type allows it."""
    return 413 if type_name in DENSE else 288 if TYPES[type_name].block_size == 32 else 512


def activations(n_tokens: int, n_in: int, rng: np.random.Generator) -> np.ndarray:
    """Rows of very different sizes, zero blocks and outliers among them."""
    x = rng.standard_normal((n_tokens, n_in)).astype(np.float32)
    x *= np.float32(10.0) ** rng.integers(-3, 4, (n_tokens, 1)).astype(np.float32)
    x[:, 32:64] = 0
    x[::3, 5] *= 100
    return x


def linear(ops: Ops, x: np.ndarray, *weights: Any) -> list[np.ndarray]:
    ops.begin_step()
    device_x = ops.load_vector(x).reshape(*x.shape)
    return [ops.to_host(y).copy() for y in ops.linear_many(device_x, weights)]


def assert_same_bits(got: np.ndarray, expected: np.ndarray, where: object = "") -> None:
    different = got.view(np.uint32) != expected.view(np.uint32)
    assert not different.any(), (
        f"{where}: {different.sum()} of {different.size}, first at {np.argwhere(different)[0]}"
    )


@pytest.mark.parametrize(("type_name", "form"), [slow_unless_quick(*pair) for pair in FORMS])
def test_every_form_gives_the_bits_of_linear_int8_in_any_thread_order(
    cuda_ops: Ops, monkeypatch: pytest.MonkeyPatch, type_name: str, form: LinearForm
) -> None:
    rng = generator(type_name, form.kernel)
    n_in = width(type_name)
    data = random_weight(type_name, N_OUT, n_in, rng)
    x = activations(max(BATCHES[form]), n_in, rng)
    expected = linear_int8(x, type_name, data, N_OUT)
    weight = cuda_ops.load_quant(type_name, (N_OUT, n_in), data, LINEAR)
    monkeypatch.setitem(linear_forms.FORMS, weight.data.layout, (replace(form, least_blocks=0),))
    for order in ORDERS:
        with thread_order(order):
            for n in BATCHES[form]:
                (got,) = linear(cuda_ops, x[:n].copy(), weight)
                assert_same_bits(got, expected[:n], f"order {order}, {n} tokens")


@pytest.mark.parametrize("n_in", [32, 160, 416])
@pytest.mark.parametrize("type_name", TAILED_TYPES)
def test_rows_with_tails_multiply_and_decode_to_the_bits_of_the_reference(
    cuda_ops: Ops, type_name: str, n_in: int
) -> None:
    """No kernel of tiles takes them; alone, in a launch of several and with a gate, for few and for many tokens."""
    rng = generator(type_name, n_in)
    gate, up, down = (random_weight(type_name, n_out, n_in, rng) for n_out in (64, 64, N_OUT))
    weights = [
        cuda_ops.load_quant(type_name, (n_out, n_in), data, LINEAR | EMBED)
        for n_out, data in ((64, gate), (64, up), (N_OUT, down))
    ]
    x = activations(9, n_in, rng)
    ids = np.arange(N_OUT, dtype=np.int32)
    for order in ORDERS:
        with thread_order(order):
            for n in (1, 9):
                for got, data, weight in zip(
                    linear(cuda_ops, x[:n].copy(), *weights), (gate, up, down), weights, strict=True
                ):
                    assert_same_bits(got, linear_int8(x[:n], type_name, data, weight.shape[0]), (order, n))
            device_x = on(cuda_ops, x)
            expected = cuda_ops.to_host(
                cuda_ops.silu_mul(*cuda_ops.linear_many(device_x, weights[:2]))
            ).copy()
            assert_same_bits(cuda_ops.to_host(cuda_ops.gated_linear(device_x, *weights[:2])), expected, order)
            rows = cuda_ops.to_host(cuda_ops.embed(weights[2], cuda_ops.index_array(ids)))
            assert_same_bits(rows, dequantize(type_name, down, N_OUT, n_in), order)


@pytest.mark.parametrize("type_name", TILED_TYPES)
@pytest.mark.parametrize("form", [DMMV_1, DMMV_1_NARROW], ids=lambda form: form.kernel)
def test_warps_that_share_a_long_row_add_in_its_order(
    cuda_ops: Ops, monkeypatch: pytest.MonkeyPatch, type_name: str, form: LinearForm
) -> None:
    """Tiles for several rounds of all warps and part of another one."""
    rng = generator(type_name, form.kernel, "long")
    n_out, n_in = 17, 256 * 35
    data = random_weight(type_name, n_out, n_in, rng)
    x = activations(1, n_in, rng)
    expected = linear_int8(x, type_name, data, n_out)
    weight = cuda_ops.load_quant(type_name, (n_out, n_in), data, LINEAR)
    monkeypatch.setitem(linear_forms.FORMS, "tiles", (replace(form, least_blocks=0),))
    for order in ORDERS:
        with thread_order(order):
            assert_same_bits(linear(cuda_ops, x, weight)[0], expected, order)


def test_matrices_that_leave_multiprocessors_idle_take_narrower_blocks() -> None:
    """On 132 multiprocessors: the matrices of an 8B model, alone and as the launches of a step."""

    def chosen(n_tokens: int, *heights: int) -> str:
        matrices = [DeviceMatrix(Any, "tiles", "tiles_IQ2_KT", n_out, 4096) for n_out in heights]
        return form_for(matrices, n_tokens, 132).kernel

    assert chosen(1, 4096) == chosen(1, 4096, 1024, 1024) == "kt_dmmv_1_narrow"
    assert chosen(1, 14336, 14336) == "kt_dmmv_1"
    assert chosen(8, 4096) == "kt_dmmv_8_narrow"
    assert chosen(8, 14336, 14336) == "kt_dmmv_8"
    assert chosen(9, 1024) == "linear_matmul"


@pytest.mark.parametrize("type_name", DENSE)
def test_dense_weights_give_the_bits_of_linear_int8_in_any_thread_order(
    cuda_ops: Ops, type_name: str
) -> None:
    rng = generator(type_name)
    data = random_weight(type_name, N_OUT, width(type_name), rng)
    x = activations(9, width(type_name), rng)
    expected = linear_int8(x, type_name, data, N_OUT)
    weight = cuda_ops.load_quant(type_name, (N_OUT, width(type_name)), data, LINEAR)
    for order in ORDERS:
        with thread_order(order):
            for n in (1, 9):
                assert_same_bits(linear(cuda_ops, x[:n].copy(), weight)[0], expected[:n], order)


@pytest.mark.parametrize("type_name", [slow_unless_quick(name) for name in TYPES])
def test_rows_decode_as_the_reference_does_from_file_bytes_and_tiles(cuda_ops: Ops, type_name: str) -> None:
    """Any bytes at all, infinite and NaN factors among them; NaN equals NaN."""
    rng = generator(type_name)
    n_out, n_in = 19, width(type_name)
    data = np.frombuffer(rng.bytes(n_out * TYPES[type_name].row_bytes(n_in)), np.uint8)
    with np.errstate(all="ignore"):
        expected = dequantize(type_name, data, n_out, n_in)
    ids = rng.permutation(n_out).astype(np.int32)
    for uses in (EMBED, EMBED | LINEAR):
        table = cuda_ops.load_quant(type_name, (n_out, n_in), data, uses)
        for order in ORDERS:
            with thread_order(order):
                cuda_ops.begin_step()
                got = cuda_ops.to_host(cuda_ops.embed(table, cuda_ops.index_array(ids)))
            same = (got.view(np.uint32) == expected[ids].view(np.uint32)) | (
                np.isnan(got) & np.isnan(expected[ids])
            )
            assert same.all(), f"order {order}, {sorted(uses)}: {(~same).sum()} weights differ"


@pytest.mark.parametrize("n_tokens", [1, 3, 9])
def test_several_matrices_in_one_launch_equal_one_by_one(cuda_ops: Ops, n_tokens: int) -> None:
    """Query, key and value of other heights; a fourth of the same type, which no longer fits; other types between."""
    rng = generator("many", n_tokens)
    sizes = [
        ("IQ2_KT", 48),
        ("IQ2_KT", 5),
        ("IQ2_KT", 33),
        ("IQ2_KT", 16),
        ("F16", 7),
        ("Q4_K", 33),
        ("IQ2_KT", 16),
    ]
    datas = [random_weight(name, n_out, 512, rng) for name, n_out in sizes]
    weights = [
        cuda_ops.load_quant(name, (n_out, 512), data, LINEAR)
        for (name, n_out), data in zip(sizes, datas, strict=True)
    ]
    x = activations(n_tokens, 512, rng)
    for got, data, (name, n_out) in zip(linear(cuda_ops, x, *weights), datas, sizes, strict=True):
        assert_same_bits(got, linear_int8(x, name, data, n_out), (name, n_out))


@pytest.mark.parametrize("type_name", ["IQ2_KT", "IQ3_KT", "Q4_K", "IQ4_KT_V1"])
@pytest.mark.parametrize("n_tokens", [1, 6, 12])
def test_a_token_that_is_not_finite_fails_alone(cuda_ops: Ops, type_name: str, n_tokens: int) -> None:
    rng = generator(type_name, n_tokens)
    data = random_weight(type_name, 20, 512, rng)
    weight = cuda_ops.load_quant(type_name, (20, 512), data, LINEAR)
    x = rng.standard_normal((n_tokens, 512)).astype(np.float32)
    expected = linear_int8(x, type_name, data, 20)
    bad = n_tokens // 2
    x[bad, 77] = rng.choice([np.nan, np.inf, -np.inf])
    (got,) = linear(cuda_ops, x, weight)
    assert np.isnan(got[bad]).all()
    assert_same_bits(np.delete(got, bad, 0), np.delete(expected, bad, 0))


@pytest.mark.parametrize("type_name", TYPES)
def test_device_memory_is_the_files_bytes_and_a_few_percent(cuda_ops: Ops, type_name: str) -> None:
    """At whole tiles. Only IQ4_KT takes more than its file: tiles hold its 15-bit indices in 16 bits, 6.25 % more."""
    data = random_weight(type_name, 256, 2048, generator(type_name))
    taken = cuda_ops.load_quant(type_name, (256, 2048), data, LINEAR).nbytes
    assert taken <= (1.0625 if type_name == "IQ4_KT" else 1) * data.nbytes


#: By type: the forms of its layout, and the numbers of tokens of BATCHES.
EPILOGUES = [
    (name, form)
    for name in ("IQ2_KT", "IQ3_KT", "Q4_K")
    for form in (BATCHES if "KT" in name else (PLAIN, MATMUL))
]


@pytest.mark.parametrize(
    ("type_name", "form"), EPILOGUES, ids=[f"{name}-{form.kernel}" for name, form in EPILOGUES]
)
def test_epilogues_give_the_bits_of_operations_of_their_own(
    cuda_ops: Ops, monkeypatch: pytest.MonkeyPatch, type_name: str, form: LinearForm
) -> None:
    """A residual, and gate and up with their product, of ragged blocks; twice, as a recorded step would."""
    rng = generator(type_name, form.kernel, "epilogue")
    n_in, n_out = width(type_name), 96
    gate, up, down = (
        cuda_ops.load_quant(type_name, shape, random_weight(type_name, *shape, rng), LINEAR)
        for shape in ((n_out, n_in), (n_out, n_in), (N_OUT, n_in))
    )
    monkeypatch.setitem(linear_forms.FORMS, gate.data.layout, (replace(form, least_blocks=0),))
    for n_tokens in BATCHES[form]:
        x, residual = activations(n_tokens, n_in, rng), activations(n_tokens, 256, rng)[:, :N_OUT].copy()
        expected_sum = residual + linear(cuda_ops, x, down)[0]
        device_x = cuda_ops.load_vector(x).reshape(*x.shape)
        expected = cuda_ops.to_host(cuda_ops.silu_mul(*cuda_ops.linear_many(device_x, (gate, up)))).copy()
        for order in ORDERS:
            with thread_order(order):
                got_sum = cuda_ops.linear_add(
                    device_x, down, cuda_ops.load_vector(residual).reshape(*residual.shape)
                )
                assert_same_bits(cuda_ops.to_host(got_sum), expected_sum, (order, n_tokens))
                product = cuda_ops.gated_linear(device_x, gate, up)
                assert_same_bits(cuda_ops.to_host(product), expected, (order, n_tokens))


@pytest.mark.parametrize(
    ("types", "n_out"),
    [(("IQ2_KT", "IQ2_KT"), 64), (("IQ2_KT", "Q4_K"), 64), (("IQ2_KT", "IQ2_KT"), 40), (("F16", "F16"), 64)],
)
@pytest.mark.parametrize("n_tokens", [1, 3, 70])
def test_gate_and_up_of_any_types_feed_the_next_linear(
    cuda_ops: Ops, cpu_ops: Ops, types: tuple[str, str], n_out: int, n_tokens: int
) -> None:
    """In one launch where they can share it; the int8 form that it leaves is the one that the next linear reads."""
    rng = generator(*types, n_out, n_tokens)
    datas = [random_weight(name, n_out, 256, rng) for name in types]
    last_type = "Q8_0" if n_out % 32 == 0 else "F16"
    last = random_weight(last_type, 16, n_out, rng)
    x = activations(n_tokens, 256, rng)
    results = []
    for ops in (cpu_ops, cuda_ops):
        ops.begin_step()
        gate, up = (
            ops.load_quant(name, (n_out, 256), data, LINEAR) for name, data in zip(types, datas, strict=True)
        )
        down = ops.load_quant(last_type, (16, n_out), last, LINEAR)
        product = ops.silu_mul if ops is cpu_ops else None
        inner = on(ops, x)
        gated = product(*ops.linear_many(inner, (gate, up))) if product else ops.gated_linear(inner, gate, up)
        results.append(np.array(ops.to_host(ops.linear(gated, down))))
    assert_same_bits(results[1], results[0])


def test_gate_and_up_of_one_type_take_one_launch(cuda_ops: Ops) -> None:
    rng = generator("launches")
    gate, up = (
        cuda_ops.load_quant("IQ2_KT", (64, 256), random_weight("IQ2_KT", 64, 256, rng), LINEAR)
        for _ in range(2)
    )
    x = on(cuda_ops, activations(1, 256, rng))
    with cuda_ops.device.logged() as launches:
        cuda_ops.gated_linear(x, gate, up)
    assert [launch.kernel for launch in launches] == ["quantize_activations", "kt_dmmv_1_narrow"]
