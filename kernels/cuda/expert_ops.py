"""Operations on stacks of matrices, which the CUDA backend does not have."""

from typing import Any, NoReturn

from kernels.batches import Array
from kernels.expert_ops import Routed, Routing
from kernels.quant_tensor import QuantStack


def _refuse() -> NoReturn:
    raise ValueError("the CUDA backend does not run mixtures of experts yet; --device cpu does")


class CudaExpertOps:
    """Refuses every operation of kernels/expert_ops.py."""

    def load_stack(self, type_name: str, shape: tuple[int, int, int], data: Any) -> QuantStack:
        _refuse()

    def route(self, logits: Array, bias: Array | None, routing: Routing) -> Routed:
        _refuse()

    def gated_experts(self, x: Array, gate: QuantStack, up: QuantStack, routed: Routed) -> Array:
        _refuse()

    def experts_sum(self, h: Array, down: QuantStack, routed: Routed, residual: Array) -> Array:
        _refuse()

    def linear_heads(self, x: Array, heads: QuantStack) -> Array:
        _refuse()
