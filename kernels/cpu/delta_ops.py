"""Recurrent operations on the CPU: shapes here, the rest in kernels/cpu/delta_net.h and delta_bindings.cpp."""

from typing import NamedTuple

import numpy as np

from kernels.batches import StateBatch
from kernels.cache_groups import StateGroup
from kernels.cpu._native import Backend
from kernels.cpu.arena import LANES, Arena
from kernels.delta_ops import DeltaGates


class StateCache(NamedTuple):
    """One layer's states, float32."""

    inputs: np.ndarray  # [n_slots, n_taps - 1, n_channels]
    states: (
        np.ndarray
    )  # [n_slots, n_head, key_dim, value_dim rounded up to LANES], a head's numbers as delta_net.h has them
    value_dim: int


class CpuDeltaOps:
    _native: Backend
    _arena: Arena

    def new_state_cache(self, group: StateGroup, n_slots: int) -> list[StateCache]:
        padded = -(-group.value_dim // LANES) * LANES
        return [
            StateCache(
                np.zeros((n_slots, group.n_taps - 1, group.n_channels), np.float32),
                np.zeros((n_slots, group.n_head, group.key_dim, padded), np.float32),
                group.value_dim,
            )
            for _ in range(group.n_layer)
        ]

    def causal_conv(
        self, x: np.ndarray, weight: np.ndarray, cache: StateCache, batch: StateBatch
    ) -> np.ndarray:
        out = self._arena.take(*x.shape)
        self._native.causal_conv(x, weight, cache.inputs, *batch, out)
        return out

    def delta_net(
        self,
        qkv: np.ndarray,
        alpha: np.ndarray,
        beta: np.ndarray,
        gates: DeltaGates,
        cache: StateCache,
        batch: StateBatch,
        eps: float,
    ) -> np.ndarray:
        n_tokens, n_head, key_dim = len(qkv), *cache.states.shape[1:3]
        n_keys = qkv.shape[1] - n_head * cache.value_dim  # of queries and keys
        normed = self._arena.take(n_tokens, max(n_keys, 0))
        decays = self._arena.take(n_tokens, n_head, 2)
        out = self._arena.take(n_tokens, n_head, cache.value_dim)
        self._native.delta_inputs(qkv, alpha, beta, *gates, key_dim, eps, normed, decays)
        self._native.delta_net(qkv, normed, decays, cache.states, *batch, out)
        return out

    def sigmoid_mul(self, x: np.ndarray, gate: np.ndarray) -> np.ndarray:
        out = self._arena.take(*x.shape)
        self._native.sigmoid_mul(x, gate, out)
        return out

    def add_gated(self, residual: np.ndarray, x: np.ndarray, gate: np.ndarray) -> np.ndarray:
        out = self._arena.take(*x.shape)
        self._native.add_gated(residual, x, gate, out)
        return out
