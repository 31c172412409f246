"""Operations on stacks of matrices on the CPU: shapes here, the rest in kernels/cpu/stack_linear.h and routing.h."""

from typing import Any

import numpy as np

from kernels.cpu._native import Backend
from kernels.cpu.arena import Arena
from kernels.expert_ops import Routed, Routing, check_routing
from kernels.quant_tensor import TYPES, QuantStack, checked_stack_bytes


class CpuExpertOps:
    """A stack is one memory of row-lane tiles, each matrix in whole tiles."""

    _native: Backend
    _arena: Arena

    def load_stack(self, type_name: str, shape: tuple[int, int, int], data: Any) -> QuantStack:
        file_bytes = checked_stack_bytes(type_name, shape, data).reshape(-1)
        stack = self._native.pack_stack(type_name, *shape, file_bytes)
        return QuantStack(stack, TYPES[type_name], shape, stack.nbytes)

    def route(self, logits: np.ndarray, bias: np.ndarray | None, routing: Routing) -> Routed:
        n_tokens, n_expert = logits.shape
        check_routing(routing, n_expert)
        experts = self._arena.take(n_tokens, routing.n_used).view(np.int32)
        weights = self._arena.take(n_tokens, routing.n_used)
        self._native.route(logits, bias, *routing, experts, weights)
        return Routed(experts, weights)

    def gated_experts(self, x: np.ndarray, gate: QuantStack, up: QuantStack, routed: Routed) -> np.ndarray:
        out = self._arena.take(*routed.experts.shape, gate.shape[1])
        self._native.gated_experts(x, gate.data, up.data, routed.experts, out)
        return out

    def experts_sum(
        self, h: np.ndarray, down: QuantStack, routed: Routed, residual: np.ndarray
    ) -> np.ndarray:
        out = self._arena.take(*residual.shape)
        self._native.experts_sum(h, down.data, *routed, residual, out)
        return out

    def linear_heads(self, x: np.ndarray, heads: QuantStack) -> np.ndarray:
        out = self._arena.take(*x.shape[:2], heads.shape[1])
        self._native.linear_heads(x, heads.data, out)
        return out
