"""Grouped-query attention over a paged cache, with what architectures add to it: biases, norms of the heads."""

from dataclasses import dataclass
from typing import Literal

from engine.batch import Batch
from engine.models.config import ModelConfig
from engine.models.parts import biased, projected
from engine.models.weight_source import WeightSource
from kernels.batches import Array, LayerCache
from kernels.ops import Ops, Rotation
from kernels.quant_tensor import QuantTensor

#: Whether a file has tensors of a kind: it must, it may, or it has none.
Presence = Literal["required", "optional", "none"]


@dataclass(frozen=True)
class GroupedQueryAttention:
    """Its weights; GGUF names without the `blk.{i}.` prefix. What a file does not have: None."""

    n_head: int
    n_head_kv: int
    head_dim: int
    rms_eps: float
    interleaved: bool  # rotary pairs lie side by side, as GGUF `llama` files hold q and k
    scale: float  # of scores
    window: int | None  # positions that a token sees, its own included; None: all
    attn_q: QuantTensor  # [n_head * head_dim, n_embd]
    attn_k: QuantTensor  # [n_head_kv * head_dim, n_embd]
    attn_v: QuantTensor  # [n_head_kv * head_dim, n_embd]
    attn_output: QuantTensor  # [n_embd, n_head * head_dim]
    attn_q_bias: Array | None
    attn_k_bias: Array | None
    attn_v_bias: Array | None
    attn_output_bias: Array | None
    attn_q_norm: Array | None  # [head_dim], of every query head
    attn_k_norm: Array | None  # [head_dim], of every key head

    def forward(
        self, ops: Ops, x: Array, *, angles: Array, batch: Batch, cache: LayerCache, residual: Array
    ) -> Array:
        """residual + attention's output. [n_tokens, n_embd] -> [n_tokens, n_embd]"""
        heads = self.heads(ops, x, angles=angles, batch=batch, cache=cache)
        return projected(ops, heads, self.attn_output, self.attn_output_bias, residual)

    def heads(self, ops: Ops, x: Array, *, angles: Array, batch: Batch, cache: LayerCache) -> Array:
        """What `attn_output` takes: [n_tokens, n_head * head_dim]"""
        q, k, v = ops.linear_many(x, [self.attn_q, self.attn_k, self.attn_v])
        q = self._heads(ops, q, self.attn_q_bias, self.attn_q_norm, self.n_head)
        k = self._heads(ops, k, self.attn_k_bias, self.attn_k_norm, self.n_head_kv)
        v = self._heads(ops, v, self.attn_v_bias, None, self.n_head_kv)
        q = ops.rope_and_store(q, k, v, Rotation(angles, self.interleaved), cache, batch.slots)
        out = ops.attention(q, cache, batch.attention, scale=self.scale, window=self.window)
        return out.reshape(batch.n_tokens, self.n_head * self.head_dim)

    def _heads(self, ops: Ops, x: Array, bias: Array | None, norm: Array | None, n_head: int) -> Array:
        """[n_tokens, n_head, head_dim]"""
        x = biased(ops, x, bias)
        n_tokens = x.shape[0]
        if norm is not None:
            x = ops.rms_norm(x.reshape(n_tokens * n_head, self.head_dim), norm, self.rms_eps)
        return x.reshape(n_tokens, n_head, self.head_dim)


def build_attention(
    config: ModelConfig,
    weights: WeightSource,
    i: int,
    *,
    interleaved: bool = False,
    qkv_biases: Presence = "none",
    output_bias: Presence = "none",
    head_norms: Presence = "none",
    scale: float | None = None,
    window: int | None = None,
) -> GroupedQueryAttention:
    """That of layer i. scale: None for head_dim ** -0.5. Raises ModelFileError as the source does."""
    prefix = f"blk.{i}."
    n_embd, head_dim = config.n_embd, config.head_dim
    n_q, n_kv = config.n_head * head_dim, config.n_head_kv * head_dim

    def vector(name: str, n: int, presence: Presence) -> Array | None:
        if presence == "required":
            return weights.vector(prefix + name, n)
        return weights.optional_vector(prefix + name, n) if presence == "optional" else None

    return GroupedQueryAttention(
        n_head=config.n_head,
        n_head_kv=config.n_head_kv,
        head_dim=head_dim,
        rms_eps=config.rms_eps,
        interleaved=interleaved,
        scale=head_dim**-0.5 if scale is None else scale,
        window=window,
        attn_q=weights.matrix(prefix + "attn_q.weight", n_q, n_embd),
        attn_k=weights.matrix(prefix + "attn_k.weight", n_kv, n_embd),
        attn_v=weights.matrix(prefix + "attn_v.weight", n_kv, n_embd),
        attn_output=weights.matrix(prefix + "attn_output.weight", n_embd, n_q),
        attn_q_bias=vector("attn_q.bias", n_q, qkv_biases),
        attn_k_bias=vector("attn_k.bias", n_kv, qkv_biases),
        attn_v_bias=vector("attn_v.bias", n_kv, qkv_biases),
        attn_output_bias=vector("attn_output.bias", n_embd, output_bias),
        attn_q_norm=vector("attn_q_norm.weight", head_dim, head_norms),
        attn_k_norm=vector("attn_k_norm.weight", head_dim, head_norms),
    )
