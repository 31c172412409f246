"""Recurrent operations, one sequence and token after the other: what each means (kernels/delta_ops.py)."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from kernels.batches import StateBatch
from kernels.cache_groups import StateGroup
from kernels.delta_ops import DeltaGates
from kernels.reference.activations import silu_mul
from kernels.reference.fma import fma32
from kernels.reference.plain_log import logarithm

LARGE = 20.0  # softplus(x) is x beyond it: what it lacks is below half a unit of float32


class StateCache(NamedTuple):
    """One layer's states."""

    inputs: np.ndarray  # float32 [n_slots, n_taps - 1, n_channels]
    states: np.ndarray  # float32 [n_slots, n_head, key_dim, value_dim]


class Span(NamedTuple):
    """A sequence's tokens in a pass."""

    tokens: slice
    slot: int
    is_fresh: bool


def new_state_cache(group: StateGroup, n_slots: int) -> list[StateCache]:
    return [
        StateCache(
            np.zeros((n_slots, group.n_taps - 1, group.n_channels), np.float32),
            np.zeros((n_slots, group.n_head, group.key_dim, group.value_dim), np.float32),
        )
        for _ in range(group.n_layer)
    ]


class ReferenceDeltaOps:
    def causal_conv(
        self, x: np.ndarray, weight: np.ndarray, cache: StateCache, batch: StateBatch
    ) -> np.ndarray:
        n_kept, n_channels = cache.inputs.shape[1:]
        taps, out = weight.reshape(n_kept + 1, n_channels), np.empty_like(x)
        for span in _spans(batch):
            before = _begin(cache.inputs, span)
            rows = np.concatenate([before, x[span.tokens]])
            n_tokens = len(rows) - n_kept
            total = np.zeros((n_tokens, n_channels), np.float32)
            for i, tap in enumerate(taps):
                total = fma32(tap, rows[i : i + n_tokens], total)
            out[span.tokens] = silu_mul(total, np.ones_like(total))
            if span.slot >= 0:
                cache.inputs[span.slot] = rows[n_tokens:]
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
        n_head, key_dim, value_dim = cache.states.shape[1:]
        queries, keys, values = _split(qkv, n_head, key_dim, value_dim)
        queries = _normed(queries, eps) * np.float32(key_dim**-0.5)
        decay = np.exp(_softplus(alpha + gates.dt) * gates.a)
        b = sigmoid_product(np.float32(1), beta)
        keys, out = _normed(keys, eps), np.empty(values.shape, np.float32)
        for span in _spans(batch):
            state = _begin(cache.states, span)
            for t in range(span.tokens.start, span.tokens.stop):
                heads = (queries[t], keys[t], values[t], decay[t], b[t])
                out[t], state = _step(state, *heads)
            if span.slot >= 0:
                cache.states[span.slot] = state
        return out

    def sigmoid_mul(self, x: np.ndarray, gate: np.ndarray) -> np.ndarray:
        return sigmoid_product(x, gate)

    def add_gated(self, residual: np.ndarray, x: np.ndarray, gate: np.ndarray) -> np.ndarray:
        return residual + sigmoid_product(x, gate)


def sigmoid_product(x: np.ndarray | np.float32, gate: np.ndarray) -> np.ndarray:
    """x * sigmoid(gate) in one division."""
    with np.errstate(over="ignore"):
        return x / (1 + np.exp(-gate))


def _spans(batch: StateBatch) -> Iterator[Span]:
    for i, slot in enumerate(batch.slots.tolist()):
        start, end = batch.query_start[i : i + 2].tolist()
        yield Span(slice(start, end), slot, slot < 0 or int(batch.context_lens[i]) == end - start)


def _begin(kept: np.ndarray, span: Span) -> np.ndarray:
    """What a sequence begins with: a copy of its slot, or zeros."""
    return np.zeros_like(kept[0]) if span.is_fresh else kept[span.slot].copy()


def _split(
    qkv: np.ndarray, n_head: int, key_dim: int, value_dim: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Queries and keys [n_tokens, n_head, key_dim], each value head's own; values [n_tokens, n_head, value_dim]."""
    n_tokens, n_keys = len(qkv), (qkv.shape[1] - n_head * value_dim) // 2
    n_k_head = n_keys // key_dim
    own = np.arange(n_head) % n_k_head
    queries, keys = (
        qkv[:, i * n_keys : (i + 1) * n_keys].reshape(n_tokens, n_k_head, key_dim) for i in (0, 1)
    )
    return queries[:, own], keys[:, own], qkv[:, 2 * n_keys :].reshape(n_tokens, n_head, value_dim)


def _normed(x: np.ndarray, eps: float) -> np.ndarray:
    return x / np.sqrt(np.sum(np.square(x), axis=-1, keepdims=True, dtype=np.float32) + np.float32(eps))


def _softplus(x: np.ndarray) -> np.ndarray:
    """log(1 + exp(x))"""
    with np.errstate(over="ignore"):
        small = logarithm(1.0 + np.exp(np.where(x <= LARGE, x, 0)).astype(np.float64)).astype(np.float32)
    return np.where(x <= LARGE, small, x)


def _step(
    state: np.ndarray, q: np.ndarray, k: np.ndarray, v: np.ndarray, decay: np.ndarray, b: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """One token of all heads: its result [n_head, value_dim], and the state [n_head, key_dim, value_dim] after it."""
    state = state * decay[:, None, None]
    known, out = np.zeros_like(v), np.zeros_like(v)
    for i in range(state.shape[1]):
        known = fma32(state[:, i], k[:, i, None], known)
    r = b[:, None] * (v - known)
    for i in range(state.shape[1]):
        state[:, i] = fma32(k[:, i, None], r, state[:, i])
        out = fma32(state[:, i], q[:, i, None], out)
    return out, state
