"""On a card the fastest form of a launch is found once, kept on disk, and used; every choice gives the same bits."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from kernels import load_backend
from kernels.cuda.form_choice import SAMPLES
from kernels.cuda.linear_forms import ALL_FORMS
from kernels.ops import Ops
from kernels.random_weights import random_weight
from kernels.reference.linear import linear_int8
from support.cuda_device import ON_CARD, cuda_device, generator
from support.fake_cupy import Machine
from support.sequences import on

pytestmark = pytest.mark.skipif(ON_CARD, reason="a card has its own clock")

N_OUT, N_IN = 37, 512
FORMS = ALL_FORMS["tiles"]


def slowest_but(fast: str) -> dict[str, float]:
    """Seconds of every form, with one that is faster."""
    return {form.kernel: 1e-5 if form.kernel == fast else 3e-5 for form in FORMS}


@contextmanager
def backend(machine: Machine, cache: Path) -> Iterator[Ops]:
    """A new process, so to say: what it knows of earlier ones lies in the folder."""
    with cuda_device(machine):
        os.environ["ESPALIER_CACHE"] = str(cache)  # put back by cuda_device
        yield load_backend("cuda")


def product(ops: Ops, n_tokens: int, type_name: str = "IQ2_KT") -> np.ndarray:
    rng = generator("choice", n_tokens, type_name)
    data = random_weight(type_name, N_OUT, N_IN, rng)
    x = rng.standard_normal((n_tokens, N_IN)).astype(np.float32)
    weight = ops.load_quant(type_name, (N_OUT, N_IN), data, frozenset({"linear"}))
    got = ops.to_host(ops.linear(on(ops, x), weight)).copy()
    np.testing.assert_array_equal(got, linear_int8(x, type_name, data, N_OUT))
    return got


@pytest.mark.parametrize("fast", [form.kernel for form in FORMS])
def test_the_fastest_form_of_those_that_take_one_token_is_used(fast: str, tmp_path: Path) -> None:
    machine = Machine(kernel_seconds=slowest_but(fast))
    with backend(machine, tmp_path) as ops:
        product(ops, 1)
        first = len(machine.launched)
        product(ops, 1)
    assert machine.launched[first:] == ["kt_pack", "quantize_activations", fast]


def test_each_form_is_timed_once_for_a_shape_and_number_of_tokens(tmp_path: Path) -> None:
    machine = Machine(kernel_seconds=slowest_but("kt_dmmv_8_narrow"))
    with backend(machine, tmp_path) as ops:
        product(ops, 5)
        n_timed = sum(machine.launched.count(form.kernel) for form in FORMS)
        product(ops, 7)  # recorded passes pad both to eight
    fitting = [form for form in FORMS if form.max_tokens != 1]
    assert n_timed == len(fitting) * (1 + SAMPLES) + 1
    assert machine.launched[-1] == "kt_dmmv_8_narrow"
    assert sum(machine.launched.count(form.kernel) for form in FORMS) == n_timed + 1


def test_the_next_process_takes_what_an_earlier_one_has_found(tmp_path: Path) -> None:
    with backend(Machine(kernel_seconds=slowest_but("kt_dmmv_dp4a")), tmp_path) as ops:
        product(ops, 1)
    machine = Machine(kernel_seconds=slowest_but("kt_dmmv_1"))
    with backend(machine, tmp_path) as ops:
        product(ops, 1)
    assert machine.launched == ["kt_pack", "quantize_activations", "kt_dmmv_dp4a"]
    (path,) = tmp_path.glob("forms-*.json")
    assert path.name == "forms-Emulated-Device.json"
    assert list(json.loads(path.read_text()).values()) == ["kt_dmmv_dp4a"]


@pytest.mark.parametrize("content", ["", "[]", '{"tiles_IQ2_KT": 5}', "KEPT"])
def test_a_file_of_something_else_or_of_other_kernels_is_timed_anew(content: str, tmp_path: Path) -> None:
    """KEPT: a choice under the digest of an older build, which goes."""
    old = json.dumps({"tiles_IQ2_KT-sm_90-0123 37x512 1": "kt_dmmv_1"})
    path = tmp_path / "forms-Emulated-Device.json"
    path.write_text(content.replace("KEPT", old))
    machine = Machine(kernel_seconds=slowest_but("linear_plain"))
    with backend(machine, tmp_path) as ops:
        product(ops, 1)
    assert machine.launched[-1] == "linear_plain"
    assert "0123" not in path.read_text()


def test_another_card_and_other_types_have_choices_of_their_own(tmp_path: Path) -> None:
    with backend(Machine(kernel_seconds=slowest_but("kt_dmmv_1")), tmp_path) as ops:
        product(ops, 1)
        product(ops, 1, "IQ3_KT")
    with backend(Machine(name="Other Card", kernel_seconds=slowest_but("kt_dmmv_dp4a")), tmp_path) as ops:
        product(ops, 1)
    found = {path.name: json.loads(path.read_text()) for path in tmp_path.glob("forms-*.json")}
    assert sorted(found) == ["forms-Emulated-Device.json", "forms-Other-Card.json"]
    assert len(found["forms-Emulated-Device.json"]) == 2


def test_without_room_to_time_in_the_table_decides(tmp_path: Path) -> None:
    machine = Machine(kernel_seconds=slowest_but("linear_plain"), l2_bytes=512 << 20)
    with backend(machine, tmp_path) as ops:
        product(ops, 1)
    assert machine.launched[-1] == "kt_dmmv_1_narrow"
    assert not list(tmp_path.glob("forms-*.json"))
