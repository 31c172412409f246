"""What a launch that multiplies has to read and write, from its arguments: what its time is judged by.

Weights, activations and results once each. Kernels that read no weights are bound by launch and latency at one token
and have no figure here.
"""

from typing import NamedTuple

from kernels.cuda.device import Launch
from kernels.cuda.linear_forms import LINEAR_KERNELS, MAX_PARTS
from kernels.cuda.weights import tiles_bytes
from kernels.quant_tensor import TYPES


class Traffic(NamedTuple):
    """n_out: of all matrices of the launch together."""

    type_name: str
    n_out: int
    n_in: int
    n_tokens: int
    n_bytes: int


def traffic_of(launch: Launch) -> Traffic | None:
    """None for a launch that reads no weights; parameters as in linear_parts.cuh and dense_linear.cu."""
    layout, _, type_name = launch.module.partition("_")
    if launch.kernel == "dense_linear":
        n_out, n_in, n_tokens = (int(a) for a in launch.arguments[2:5])
        weights, activations = n_out * TYPES[type_name].row_bytes(n_in), 4 * n_in
        heights = [n_out]
    elif launch.kernel in LINEAR_KERNELS:
        first = 2 * MAX_PARTS
        heights = [int(n) for n in launch.arguments[first : first + MAX_PARTS]]
        n_in, n_tokens = (
            int(launch.arguments[first + MAX_PARTS]),
            int(launch.arguments[first + MAX_PARTS + 4]),
        )
        weights = sum(_weight_bytes(layout, type_name, n, n_in) for n in heights)
        activations = n_in + 8 * (n_in // 32)
    else:
        return None
    n_out = sum(heights)
    return Traffic(type_name, n_out, n_in, n_tokens, weights + n_tokens * (activations + 4 * n_out))


def _weight_bytes(layout: str, type_name: str, n_out: int, n_in: int) -> int:
    quant_type = TYPES[type_name]
    return tiles_bytes(type_name, n_out, n_in) if layout == "tiles" else n_out * quant_type.row_bytes(n_in)
