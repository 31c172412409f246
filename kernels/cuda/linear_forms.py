"""Which kernel multiplies with which weights, for how many tokens: one table, and the launch of its entries."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kernels.cuda.arena import DeviceArray, Int8Form
from kernels.cuda.device import Device, Launch
from kernels.cuda.weights import DeviceMatrix

MAX_PARTS = 3  # matrices of one launch (linear_parts.cuh)


@dataclass(frozen=True)
class LinearForm:
    """A kernel with the parameters of linear_parts.cuh and the work of one block of threads."""

    kernel: str
    max_tokens: int | None  # None: any number
    rows: int
    tokens: int
    threads: int


PLAIN = LinearForm("linear_plain", 8, rows=64, tokens=8, threads=256)
MATMUL = LinearForm("linear_matmul", None, rows=32, tokens=64, threads=256)
DMMV_1 = LinearForm("kt_dmmv_1", 1, rows=32, tokens=1, threads=256)
DMMV_8 = LinearForm("kt_dmmv_8", 8, rows=32, tokens=8, threads=128)
DMMV_DP4A = LinearForm("kt_dmmv_dp4a", 1, rows=32, tokens=1, threads=64)

#: By layout, or by module where one differs: the first that takes the number of tokens. Until a card has timed them,
#: that is the form with the fewest counted instructions a weight (docs/cuda.md); all give the same bits.
FORMS: dict[str, tuple[LinearForm, ...]] = {
    "tiles": (DMMV_1, DMMV_8, MATMUL),
    "tiles_IQ3_KT": (DMMV_DP4A, DMMV_8, MATMUL),
    "rows": (PLAIN, MATMUL),
}

#: By layout, every form that takes its matrices.
ALL_FORMS: dict[str, tuple[LinearForm, ...]] = {
    "tiles": (DMMV_1, DMMV_DP4A, DMMV_8, PLAIN, MATMUL),
    "rows": (PLAIN, MATMUL),
}
#: Kernels whose parameters are those of linear_parts.cuh.
LINEAR_KERNELS = frozenset(form.kernel for forms in ALL_FORMS.values() for form in forms)


def form_for(matrix: DeviceMatrix, n_tokens: int) -> LinearForm:
    forms = FORMS.get(matrix.module, FORMS[matrix.layout])
    return next(f for f in forms if f.max_tokens is None or n_tokens <= f.max_tokens)


def launch_linear(
    device: Device,
    form: LinearForm,
    matrices: Sequence[DeviceMatrix],
    x: Int8Form,
    n_tokens: int,
    outs: Sequence[DeviceArray],
) -> None:
    """outs[i] = matrices[i] x for up to MAX_PARTS matrices of one module and width."""
    device.launch(*linear_launch(form, matrices, x, n_tokens, [out.pointer for out in outs]))


def linear_launch(
    form: LinearForm, matrices: Sequence[DeviceMatrix], x: Int8Form, n_tokens: int, outs: Sequence[int]
) -> Launch:
    """What `launch_linear` launches. outs: addresses, float32 [n_tokens, n_out] each."""
    absent = MAX_PARTS - len(matrices)
    n_out = [matrix.n_out for matrix in matrices] + [0] * absent
    grid = (sum(-(-n // form.rows) for n in n_out), -(-n_tokens // form.tokens))
    arguments: tuple[np.generic, ...] = (
        *(np.uint64(matrix.buffer.pointer) for matrix in matrices),
        *(np.uint64(0),) * absent,
        *map(np.uint64, outs),
        *(np.uint64(0),) * absent,
        *(np.int32(n) for n in n_out),
        np.int32(matrices[0].n_in),
        *(np.uint64(address) for address in x),
        np.int32(n_tokens),
    )
    return Launch(matrices[0].module, form.kernel, grid, form.threads, arguments)


def groups_of_one_launch(matrices: Sequence[DeviceMatrix]) -> list[list[int]]:
    """Indices of the matrices, in order, cut where the module changes or a launch is full."""
    groups: list[list[int]] = []
    for i, matrix in enumerate(matrices):
        last = groups[-1] if groups else []
        if last and matrices[last[0]].module == matrix.module and len(last) < MAX_PARTS:
            last.append(i)
        else:
            groups.append([i])
    return groups
