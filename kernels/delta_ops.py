"""The operations of a gated delta net and of gates by a sigmoid: part of `Ops` (ops.py).

A recurrent layer keeps a state of each sequence in a slot, and every pass takes it on, token by token: however a
sequence is cut into passes, its state and its results have the same bits.
"""

from typing import NamedTuple, Protocol

from kernels.batches import Array, LayerCache, StateBatch


class DeltaGates(NamedTuple):
    """What the two gates of a delta net are worked out with, besides the token."""

    dt: Array  # [n_head]
    a: Array  # [n_head], below zero


class DeltaNetOps(Protocol):
    """One backend's recurrent operations. A cache is one layer's of a StateGroup (cache_groups.py)."""

    def causal_conv(self, x: Array, weight: Array, cache: LayerCache, batch: StateBatch) -> Array:
        """silu of a causal convolution of each channel: [n_tokens, n_channels] -> [n_tokens, n_channels].

        weight [n_taps * n_channels]: a row of channels for each tap, that of the oldest token first, the last one for
        the token itself. One fused multiply-add a tap, in that order, from zero. The last n_taps - 1 rows of a
        sequence are kept in its slot.
        """

    def delta_net(
        self,
        qkv: Array,
        alpha: Array,
        beta: Array,
        gates: DeltaGates,
        cache: LayerCache,
        batch: StateBatch,
        eps: float,
    ) -> Array:
        """qkv [n_tokens, n_channels]: queries and keys [n_k_head, key_dim] each, values [n_head, value_dim];
        alpha, beta [n_tokens, n_head] -> [n_tokens, n_head, value_dim]. Head p of the values has query and key head
        p % n_k_head.

        Queries and keys are divided by the root of their sum of squares + eps, queries by that of key_dim too. With
        decay = exp(softplus(alpha + dt) * a) and b = sigmoid(beta) a head's state S [key_dim, value_dim] goes
        S = decay * S; r = b * (v - k S); S = S + k r; and the result is q S: sums over key_dim go up, one fused
        multiply-add each. Yang et al. 2024, arXiv:2412.06464, equation 10.
        """

    def sigmoid_mul(self, x: Array, gate: Array) -> Array:
        """x * sigmoid(gate), elementwise, as x / (1 + exp(-gate))."""

    def add_gated(self, residual: Array, x: Array, gate: Array) -> Array:
        """residual + x * sigmoid(gate), [n_tokens, n]; gate [n_tokens, 1]. The product as in `sigmoid_mul`."""
