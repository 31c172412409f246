"""Operations on stacks of matrices, one expert or head after the other: what each means (kernels/expert_ops.py)."""

from typing import Any

import numpy as np

from kernels.expert_ops import Routed, Routing
from kernels.quant_tensor import TYPES, QuantStack, checked_stack_bytes
from kernels.reference import routing as router
from kernels.reference.activations import silu_mul
from kernels.reference.fma import fma32
from kernels.reference.linear import linear_int8


class ReferenceExpertOps:
    """A stack stays as the file's bytes, uint8 [n, bytes of a matrix]."""

    planes: int

    def load_stack(self, type_name: str, shape: tuple[int, int, int], data: Any) -> QuantStack:
        matrices = checked_stack_bytes(type_name, shape, data).copy()
        return QuantStack(matrices, TYPES[type_name], shape, matrices.nbytes)

    def route(self, logits: np.ndarray, bias: np.ndarray | None, routing: Routing) -> Routed:
        return router.route(logits, bias, routing)

    def gated_experts(self, x: np.ndarray, gate: QuantStack, up: QuantStack, routed: Routed) -> np.ndarray:
        n_tokens, n_used = routed.experts.shape
        rows = np.repeat(x, n_used, axis=0)  # one for each slot
        experts = routed.experts.reshape(-1)
        h = silu_mul(self._products(rows, gate, experts), self._products(rows, up, experts))
        return h.reshape(n_tokens, n_used, -1)

    def experts_sum(
        self, h: np.ndarray, down: QuantStack, routed: Routed, residual: np.ndarray
    ) -> np.ndarray:
        n_tokens, n_used, n_ff = h.shape
        products = self._products(h.reshape(-1, n_ff), down, routed.experts.reshape(-1))
        products = products.reshape(n_tokens, n_used, -1)
        total = np.zeros_like(residual)
        for slot in range(n_used):
            total = fma32(routed.weights[:, slot, None], products[:, slot], total)
        return residual + total

    def linear_heads(self, x: np.ndarray, heads: QuantStack) -> np.ndarray:
        n_tokens, n_head, n_in = x.shape
        matrices = np.tile(np.arange(n_head), n_tokens)
        return self._products(x.reshape(-1, n_in), heads, matrices).reshape(n_tokens, n_head, -1)

    def _products(self, rows: np.ndarray, stack: QuantStack, matrices: np.ndarray) -> np.ndarray:
        """rows[i] through matrix matrices[i]: [n_rows, n_in] -> [n_rows, n_out]"""
        n, n_out, _ = stack.shape
        if matrices.size and not 0 <= matrices.min() <= matrices.max() < n:
            raise ValueError(f"an expert is outside 0 .. {n - 1}")
        out = np.empty((len(rows), n_out), np.float32)
        for i in np.unique(matrices):
            chosen = matrices == i
            out[chosen] = linear_int8(rows[chosen], stack.type.name, stack.data[i], n_out, self.planes)
        return out
