"""Which kernel multiplies with which weights, for how many tokens: one table, and the launch of its entries."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from kernels.cuda.arena import Int8Form
from kernels.cuda.device import Launch
from kernels.cuda.weights import DeviceMatrix

MAX_PARTS = 3  # matrices of one launch (linear_parts.cuh)


@dataclass(frozen=True)
class LinearForm:
    """A kernel with the parameters of linear_parts.cuh and the work of one block of threads.

    least_blocks: with fewer a multiprocessor, the form after it in the table fills the card better.
    """

    kernel: str
    max_tokens: int | None  # None: any number
    rows: int
    tokens: int
    threads: int
    least_blocks: int = 0

    def grid(self, heights: Sequence[int], n_tokens: int) -> tuple[int, int]:
        """heights: rows of each matrix of the launch."""
        return sum(-(-n // self.rows) for n in heights), -(-n_tokens // self.tokens)


PLAIN = LinearForm("linear_plain", 8, rows=64, tokens=8, threads=256)
MATMUL = LinearForm("linear_matmul", None, rows=32, tokens=64, threads=256)
DMMV_1 = LinearForm("kt_dmmv_1", 1, rows=32, tokens=1, threads=256, least_blocks=2)
DMMV_1_NARROW = LinearForm("kt_dmmv_1_narrow", 1, rows=16, tokens=1, threads=512)
DMMV_8 = LinearForm("kt_dmmv_8", 8, rows=32, tokens=8, threads=128, least_blocks=4)
DMMV_8_NARROW = LinearForm("kt_dmmv_8_narrow", 8, rows=16, tokens=8, threads=128)
DMMV_DP4A = LinearForm("kt_dmmv_dp4a", 1, rows=32, tokens=1, threads=64)


class Epilogue(NamedTuple):
    """What a launch does beyond its products: addresses, 0 where it does not (linear_parts.cuh, gated.cuh)."""

    residual: int = 0  # added to the one result
    gated: int = 0  # where silu(first result) * second goes
    gated_q: int = 0
    gated_dx: int = 0
    gated_sums: int = 0
    arrivals: int = 0


#: Plain products.
NO_EPILOGUE = Epilogue()
GATED_ROWS = 32  # gated.cuh: outputs that are done together

#: By layout: the first that takes the number of tokens and has enough blocks. Until a card has timed them, that is
#: the one with the fewest counted instructions whose blocks fill the card (docs/cuda.md). All give the same bits.
FORMS: dict[str, tuple[LinearForm, ...]] = {
    "tiles": (DMMV_1, DMMV_1_NARROW, DMMV_8, DMMV_8_NARROW, MATMUL),
    "rows": (PLAIN, MATMUL),
}

#: By layout, every form that takes its matrices.
ALL_FORMS: dict[str, tuple[LinearForm, ...]] = {
    "tiles": (DMMV_1, DMMV_1_NARROW, DMMV_DP4A, DMMV_8, DMMV_8_NARROW, PLAIN, MATMUL),
    "rows": (PLAIN, MATMUL),
}
#: Kernels whose parameters are those of linear_parts.cuh.
LINEAR_KERNELS = frozenset(form.kernel for forms in ALL_FORMS.values() for form in forms)


def form_for(matrices: Sequence[DeviceMatrix], n_tokens: int, n_multiprocessors: int) -> LinearForm:
    """For one launch: matrices of one module."""
    heights = [matrix.n_out for matrix in matrices]
    return next(
        form
        for form in FORMS[matrices[0].layout]
        if (form.max_tokens is None or n_tokens <= form.max_tokens)
        and math.prod(form.grid(heights, n_tokens)) >= form.least_blocks * n_multiprocessors
    )


def linear_launch(
    form: LinearForm,
    matrices: Sequence[DeviceMatrix],
    x: Int8Form,
    n_tokens: int,
    outs: Sequence[int],
    epilogue: "Epilogue",
) -> Launch:
    """outs[i] = matrices[i] x for up to MAX_PARTS matrices of one module and width.

    outs: addresses, float32 [n_tokens, n_out] each.
    """
    absent = MAX_PARTS - len(matrices)
    n_out = [matrix.n_out for matrix in matrices] + [0] * absent
    arguments: tuple[np.generic, ...] = (
        *(np.uint64(matrix.buffer.pointer) for matrix in matrices),
        *(np.uint64(0),) * absent,
        *map(np.uint64, outs),
        *(np.uint64(0),) * absent,
        *(np.int32(n) for n in n_out),
        np.int32(matrices[0].n_in),
        *(np.uint64(address) for address in x),
        np.int32(n_tokens),
        *map(np.uint64, epilogue),
    )
    return Launch(matrices[0].module, form.kernel, form.grid(n_out, n_tokens), form.threads, arguments)


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
