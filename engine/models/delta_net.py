"""Gated delta net: attention whose memory of all earlier tokens is one matrix a head, corrected by each new token.

Yang et al. 2024, arXiv:2412.06464. A convolution over the last tokens comes before it, a gated norm after it.
"""

from dataclasses import dataclass
from typing import NamedTuple

from engine.batch import Batch
from engine.metadata_reader import MetadataReader
from engine.models.config import MAX_HEAD_DIM, MAX_HEADS, MAX_WIDTH
from engine.models.weight_source import WeightSource
from kernels.batches import Array, LayerCache
from kernels.cache_groups import StateGroup
from kernels.delta_ops import DeltaGates
from kernels.ops import Ops
from kernels.quant_tensor import QuantTensor

L2_EPS = 1e-6  # of the norms of queries and keys; no key of a file tells it
MAX_TAPS = 64


class DeltaNetConfig(NamedTuple):
    """Head p of the values uses head p % n_k_head of the queries and keys."""

    n_k_head: int
    n_v_head: int
    key_dim: int
    value_dim: int
    n_taps: int  # of the convolution, the token itself included

    @property
    def n_channels(self) -> int:
        """Queries, keys and values side by side."""
        return 2 * self.n_k_head * self.key_dim + self.n_v_head * self.value_dim

    def state_group(self, n_layer: int) -> StateGroup:
        return StateGroup(n_layer, self.n_channels, self.n_taps, self.n_v_head, self.key_dim, self.value_dim)


def read_delta_net(keys: MetadataReader) -> DeltaNetConfig:
    """Raises ModelFileError."""
    n_k_head = keys.integer("ssm.group_count", 1, MAX_HEADS)
    n_v_head = keys.integer("ssm.time_step_rank", 1, MAX_HEADS)
    if n_v_head % n_k_head:
        raise keys.error("ssm.time_step_rank", f"a multiple of ssm.group_count {n_k_head} is needed")
    inner = keys.integer("ssm.inner_size", 1, MAX_WIDTH)
    if inner % n_v_head or inner // n_v_head > MAX_HEAD_DIM:
        raise keys.error(
            "ssm.inner_size", f"{n_v_head} heads (ssm.time_step_rank) of up to {MAX_HEAD_DIM} are needed"
        )
    key_dim = keys.integer("ssm.state_size", 1, MAX_HEAD_DIM)
    n_taps = keys.integer("ssm.conv_kernel", 2, MAX_TAPS)
    return DeltaNetConfig(n_k_head, n_v_head, key_dim, inner // n_v_head, n_taps)


@dataclass(frozen=True)
class GatedDeltaNet:
    """Its weights; GGUF names without the `blk.{i}.` prefix."""

    config: DeltaNetConfig
    rms_eps: float
    attn_qkv: QuantTensor  # [n_channels, n_embd]
    attn_gate: QuantTensor  # [n_v_head * value_dim, n_embd]
    ssm_alpha: QuantTensor  # [n_v_head, n_embd]
    ssm_beta: QuantTensor  # [n_v_head, n_embd]
    ssm_conv1d: Array  # [n_taps * n_channels]
    gates: DeltaGates  # ssm_dt and ssm_a
    ssm_norm: Array  # [value_dim]
    ssm_out: QuantTensor  # [n_embd, n_v_head * value_dim]

    def forward(
        self, ops: Ops, x: Array, *, angles: Array, batch: Batch, cache: LayerCache, residual: Array
    ) -> Array:
        """residual + its output. [n_tokens, n_embd] -> [n_tokens, n_embd]. It needs no positions, so no angles."""
        assert batch.state is not None, "a pass without recurrent states"
        c, n_heads = self.config, batch.n_tokens * self.config.n_v_head
        qkv, z, alpha, beta = ops.linear_many(
            x, [self.attn_qkv, self.attn_gate, self.ssm_alpha, self.ssm_beta]
        )
        qkv = ops.causal_conv(qkv, self.ssm_conv1d, cache, batch.state)
        heads = ops.delta_net(qkv, alpha, beta, self.gates, cache, batch.state, L2_EPS)
        normed = ops.rms_norm(heads.reshape(n_heads, c.value_dim), self.ssm_norm, self.rms_eps)
        gated = ops.silu_mul(z.reshape(n_heads, c.value_dim), normed)
        return ops.linear_add(gated.reshape(batch.n_tokens, c.n_v_head * c.value_dim), self.ssm_out, residual)


def build_delta_net(
    config: DeltaNetConfig, rms_eps: float, n_embd: int, weights: WeightSource, i: int
) -> GatedDeltaNet:
    """That of layer i. Raises ModelFileError as the source does."""
    prefix, c = f"blk.{i}.", config
    n_values = c.n_v_head * c.value_dim
    other = prefix + "ssm_dt.weight"  # as some converters name it
    dt = other if weights.has(other) else prefix + "ssm_dt.bias"
    taps = weights.host_floats(prefix + "ssm_conv1d.weight", (c.n_taps, c.n_channels))
    return GatedDeltaNet(
        config=c,
        rms_eps=rms_eps,
        attn_qkv=weights.matrix(prefix + "attn_qkv.weight", c.n_channels, n_embd),
        attn_gate=weights.matrix(prefix + "attn_gate.weight", n_values, n_embd),
        ssm_alpha=weights.matrix(prefix + "ssm_alpha.weight", c.n_v_head, n_embd),
        ssm_beta=weights.matrix(prefix + "ssm_beta.weight", c.n_v_head, n_embd),
        ssm_conv1d=weights.to_device(taps.T.reshape(-1)),  # a file has the taps of a channel together
        gates=DeltaGates(
            dt=weights.vector(dt, c.n_v_head),
            a=weights.vector(prefix + "ssm_a", c.n_v_head),
        ),
        ssm_norm=weights.vector(prefix + "ssm_norm.weight", c.value_dim),
        ssm_out=weights.matrix(prefix + "ssm_out.weight", n_embd, n_values),
    )
