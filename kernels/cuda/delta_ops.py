"""Recurrent operations on CUDA: causal_conv.cu, delta_net.cu and, of gates by a sigmoid, activations.cu."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from kernels.batches import StateBatch
from kernels.cache_groups import StateGroup
from kernels.cuda.arena import Arena, DeviceArray
from kernels.cuda.compile import DELTA_KEY_DIMS, delta_net_module
from kernels.cuda.device import Device, DeviceBuffer
from kernels.delta_ops import DeltaGates

THREADS = 256  # causal_conv.cu and activations.cu, kThreads
CONV_TOKENS = 32  # of a thread, at least
WARP, MAX_COLUMNS = 32, 128  # of a block of delta_net.cu
MAX_KEY_DIM = 2048  # delta_net.cu, kGroupFloats / 2


class StateCache(NamedTuple):
    """One layer's states, float32."""

    module: str  # of the delta net's kernel for its key_dim
    inputs: DeviceBuffer  # [n_slots, n_taps - 1, n_channels]
    states: DeviceBuffer  # [n_slots, n_head, key_dim, value_dim]
    group: StateGroup


class CudaDeltaOps:
    _device: Device
    _arena: Arena
    _run: Callable[..., None]
    _activated_mul: Callable[[str, DeviceArray, DeviceArray], DeviceArray]

    def new_state_cache(self, group: StateGroup, n_slots: int) -> list[StateCache]:
        """Raises ValueError for a size of keys that the kernel does not have."""
        if group.key_dim > MAX_KEY_DIM:
            raise ValueError(
                f"recurrent keys of {group.key_dim} values; the CUDA backend has sizes up to {MAX_KEY_DIM}"
            )
        module = delta_net_module(group.key_dim if group.key_dim in DELTA_KEY_DIMS else None)
        n_inputs = n_slots * (group.n_taps - 1) * group.n_channels
        n_states = n_slots * group.n_head * group.key_dim * group.value_dim
        return [
            StateCache(module, self._zeros(n_inputs), self._zeros(n_states), group)
            for _ in range(group.n_layer)
        ]

    def _zeros(self, n_floats: int) -> DeviceBuffer:
        buffer = self._device.allocate(4 * n_floats)
        self._device.clear(buffer.pointer, 4 * n_floats)
        return buffer

    def causal_conv(
        self, x: DeviceArray, weight: DeviceArray, cache: StateCache, batch: StateBatch
    ) -> DeviceArray:
        n_tokens, n_channels = x.shape
        n_taps = cache.group.n_taps
        assert n_channels == cache.group.n_channels, (x.shape, cache.group)
        out = self._arena.take(n_tokens, n_channels)
        chunk = max(CONV_TOKENS, n_taps - 1)
        grid = (-(-n_channels // THREADS), len(batch.slots), -(-n_tokens // chunk))
        sizes = (n_channels, n_taps, chunk, np.uint64(cache.inputs.pointer))
        self._run("causal_conv", "causal_conv", grid, THREADS, x, weight, *batch, *sizes, out)
        return out

    def delta_net(
        self,
        qkv: DeviceArray,
        alpha: DeviceArray,
        beta: DeviceArray,
        gates: DeltaGates,
        cache: StateCache,
        batch: StateBatch,
        eps: float,
    ) -> DeviceArray:
        (n_tokens, n_channels), n_seqs = qkv.shape, len(batch.slots)
        n_head, key_dim, value_dim = cache.group.n_head, cache.group.key_dim, cache.group.value_dim
        n_k_head = (n_channels - n_head * value_dim) // (2 * key_dim)
        out = self._arena.take(n_tokens, n_head, value_dim)
        # A warp of columns a block gives one token of few sequences the most blocks; of more tokens a block's columns
        # share the norms.
        columns = WARP if n_tokens <= n_seqs else min(MAX_COLUMNS, -(-value_dim // WARP) * WARP)
        grid = (-(-value_dim // columns), n_head, n_seqs)
        query_scale = np.float32(1) / np.sqrt(np.float32(key_dim))
        sizes = (n_k_head, key_dim, value_dim, float(eps), query_scale, np.uint64(cache.states.pointer))
        inputs = (qkv, alpha, beta, gates.dt, gates.a, *batch)
        self._run(cache.module, "delta_net", grid, columns, *inputs, *sizes, out)
        return out

    def sigmoid_mul(self, x: DeviceArray, gate: DeviceArray) -> DeviceArray:
        return self._activated_mul("sigmoid_mul", x, gate)

    def add_gated(self, residual: DeviceArray, x: DeviceArray, gate: DeviceArray) -> DeviceArray:
        n_tokens, n = x.shape
        out = self._arena.take(n_tokens, n)
        self._run(
            "activations", "add_gated", (-(-n // THREADS), n_tokens), THREADS, residual, x, gate, n, out
        )
        return out
