"""Multi-head latent attention in its absorbed form: one cached row a token, that all heads read as keys and values.

DeepSeek-V2, arXiv:2405.04434, 2.1. A head's key is k_b of the latent, and its query times that is (k_b^T query) times
the latent: so queries are taken to the latent once, and values come out of it after attention (v_b).
"""

import math
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from engine.batch import Batch
from engine.metadata_reader import MetadataReader
from engine.models.config import MAX_HEAD_DIM, MAX_WIDTH, base_fields, extra_layers
from engine.models.decoder import Decoder, FeedForwardPart, build_decoder
from engine.models.experts import MoeConfig, build_experts, read_experts
from engine.models.parts import build_feed_forward
from engine.models.weight_source import Part, WeightSource
from kernels.batches import Array, LayerCache
from kernels.cache_groups import LatentGroup
from kernels.ops import Ops
from kernels.quant_tensor import QuantStack, QuantTensor

#: Of the norms inside attention, whatever the file says of the others: what transformers' classes always take.
LATENT_EPS = 1e-6


@dataclass(frozen=True, kw_only=True)
class LatentConfig(MoeConfig):
    """head_dim is a head's query: its part without positions, then rope.n_rot rotated values."""

    q_lora_rank: int  # of the latent that queries come from; 0: they come from the stream itself
    kv_lora_rank: int  # of the latent that is cached
    value_dim: int  # of a head
    yarn_log_multiplier: float

    @property
    def nope_dim(self) -> int:
        """Values of a head's query that are not rotated."""
        return self.head_dim - self.rope.n_rot

    @property
    def score_scale(self) -> float:
        """1 / sqrt of the width, times yarn's sharpening squared: cosines and sines are left alone for it."""
        sharpening = self.rope.attn_factor * (1 + self.yarn_log_multiplier * math.log(self.rope.factor))
        return sharpening**2 / math.sqrt(self.head_dim)


def read_latent(keys: MetadataReader, *, gating: str) -> dict[str, Any]:
    """The fields of LatentConfig. gating: of experts, where the file does not say. Raises ModelFileError."""
    head_dim, value_dim = _head_widths(keys)
    base = base_fields(keys, predicts_further=True, n_ff=0, head_dim=head_dim)
    if head_dim <= base["rope"].n_rot:
        raise keys.error("rope.dimension_count", f"less than the {head_dim} values of a head is needed")
    fields = base | {
        "value_dim": value_dim,
        "q_lora_rank": keys.integer("attention.q_lora_rank", 0, MAX_WIDTH, default=0),
        "kv_lora_rank": keys.integer("attention.kv_lora_rank", 1, MAX_WIDTH),
        "yarn_log_multiplier": keys.number("rope.scaling.yarn_log_multiplier", 0.0, 100.0, default=0.0),
        "experts": read_experts(keys, gating=gating, normalize=False, n_ff=base["n_ff"]),
        "n_dense_layers": keys.integer("leading_dense_block_count", 0, base["n_layer"], default=0),
    }
    if keys.has("attention.key_length_mla"):
        _check_row(keys, fields["kv_lora_rank"], base["rope"].n_rot)
    return fields


def _head_widths(keys: MetadataReader) -> tuple[int, int]:
    """Of a head's query and of its value. Newer files say under `key_length` how wide the cached row is."""
    suffix = "_mla" if keys.has("attention.key_length_mla") else ""
    head_dim = keys.integer(f"attention.key_length{suffix}", 2, MAX_HEAD_DIM)
    return head_dim, keys.integer(f"attention.value_length{suffix}", 1, MAX_HEAD_DIM)


def _check_row(keys: MetadataReader, kv_lora_rank: int, n_rot: int) -> None:
    for name, width in (("key_length", kv_lora_rank + n_rot), ("value_length", kv_lora_rank)):
        if keys.integer(f"attention.{name}", 1, 2 * MAX_WIDTH, default=width) != width:
            raise keys.error(f"attention.{name}", f"the cached row gives {width}")


class Projections(NamedTuple):
    """What attention makes of its input, each [n_tokens, its rows]. q_a: normed; None where queries come straight."""

    q_a: Array | None
    q_nope: Array
    q_rope: Array
    latent: Array
    k_rope: Array


@dataclass(frozen=True)
class LatentAttention:
    """Its weights; GGUF names without the `blk.{i}.` prefix. Matrices that hold two things are taken apart."""

    config: LatentConfig
    attn_q_a: QuantTensor | None  # [q_lora_rank, n_embd]
    attn_q_a_norm: Array | None  # [q_lora_rank]
    q_nope: QuantTensor  # [n_head * nope_dim, q_lora_rank or n_embd]
    q_rope: QuantTensor  # [n_head * n_rot, q_lora_rank or n_embd]
    kv_latent: QuantTensor  # [kv_lora_rank, n_embd]
    k_rope: QuantTensor  # [n_rot, n_embd]
    attn_kv_a_norm: Array  # [kv_lora_rank]
    attn_k_b: QuantStack  # [n_head, kv_lora_rank, nope_dim]
    attn_v_b: QuantStack  # [n_head, value_dim, kv_lora_rank]
    attn_output: QuantTensor  # [n_embd, n_head * value_dim]

    def forward(
        self, ops: Ops, x: Array, *, angles: Array, batch: Batch, cache: LayerCache, residual: Array
    ) -> Array:
        """residual + attention's output. [n_tokens, n_embd] -> [n_tokens, n_embd]"""
        return self.attend(
            ops, self.projected(ops, x), angles=angles, batch=batch, cache=cache, residual=residual
        )

    def projected(self, ops: Ops, x: Array) -> Projections:
        if self.attn_q_a is None:
            matrices = [self.q_nope, self.q_rope, self.kv_latent, self.k_rope]
            q_nope, q_rope, latent, k_rope = ops.linear_many(x, matrices)
            return Projections(None, q_nope, q_rope, latent, k_rope)
        q_a, latent, k_rope = ops.linear_many(x, [self.attn_q_a, self.kv_latent, self.k_rope])
        q_a = ops.rms_norm(q_a, self.attn_q_a_norm, LATENT_EPS)
        q_nope, q_rope = ops.linear_many(q_a, [self.q_nope, self.q_rope])
        return Projections(q_a, q_nope, q_rope, latent, k_rope)

    def attend(
        self,
        ops: Ops,
        x: Projections,
        *,
        angles: Array,
        batch: Batch,
        cache: LayerCache,
        residual: Array,
        chosen: Array | None = None,
    ) -> Array:
        """chosen: the positions that each token sees (`Ops.choose_keys`); None: all up to its own."""
        n_tokens, n_head = batch.n_tokens, self.config.n_head
        latent = ops.rms_norm(x.latent, self.attn_kv_a_norm, LATENT_EPS)
        k_rope = ops.rope(x.k_rope.reshape(n_tokens, 1, self.config.rope.n_rot), angles, interleaved=True)
        row = ops.concat(latent, k_rope.reshape(n_tokens, self.config.rope.n_rot))
        ops.store_latent(row, cache, batch.slots)
        q_rope = ops.rope(
            x.q_rope.reshape(n_tokens, n_head, self.config.rope.n_rot), angles, interleaved=True
        )
        q_latent = ops.linear_heads(x.q_nope.reshape(n_tokens, n_head, self.config.nope_dim), self.attn_k_b)
        q = ops.concat(q_latent, q_rope)  # [n_tokens, n_head, kv_lora_rank + n_rot]
        scale = self.config.score_scale
        if chosen is None:
            out = ops.latent_attention(q, cache, batch.attention, scale)
        else:
            out = ops.sparse_latent_attention(q, cache, batch.attention, scale, chosen)
        heads = ops.linear_heads(out, self.attn_v_b)  # [n_tokens, n_head, value_dim]
        return ops.linear_add(
            heads.reshape(n_tokens, n_head * self.config.value_dim), self.attn_output, residual
        )


def build_latent_decoder(config: LatentConfig, weights: WeightSource) -> Decoder:
    """Raises ModelFileError for a missing tensor or a shape that the hyperparameters do not give."""
    group = LatentGroup(config.n_layer, config.kv_lora_rank + config.rope.n_rot, config.kv_lora_rank)
    decoder = build_decoder(config, weights, build_attention, _build_ffn, groups=(group,))
    return replace(decoder, rope=replace(decoder.rope, mscale=1.0))


def _build_ffn(config: LatentConfig, weights: WeightSource, i: int) -> FeedForwardPart:
    if i < config.n_dense_layers:
        return build_feed_forward(config, weights, i)
    return build_experts(config, weights, i, may_have_bias=True)


def build_attention(config: LatentConfig, weights: WeightSource, i: int) -> LatentAttention:
    """That of layer i. Raises ModelFileError as the source does."""
    prefix, n_embd, rank = f"blk.{i}.", config.n_embd, config.kv_lora_rank
    straight = weights.has(prefix + "attn_q.weight") or config.q_lora_rank == 0
    n_in = n_embd if straight else config.q_lora_rank
    q_rows = _rows_of_heads(config.n_head, config.nope_dim, config.rope.n_rot)
    q_nope, q_rope = weights.row_parts(
        prefix + ("attn_q" if straight else "attn_q_b") + ".weight", q_rows, n_in
    )
    kv_rows = _rows_of_heads(1, rank, config.rope.n_rot)
    kv_latent, k_rope = weights.row_parts(prefix + "attn_kv_a_mqa.weight", kv_rows, n_embd)
    k_b, v_b = _latent_matrices(config, weights, prefix)
    return LatentAttention(
        config=config,
        attn_q_a=None if straight else weights.matrix(prefix + "attn_q_a.weight", n_in, n_embd),
        attn_q_a_norm=None if straight else weights.vector(prefix + "attn_q_a_norm.weight", n_in),
        q_nope=q_nope,
        q_rope=q_rope,
        kv_latent=kv_latent,
        k_rope=k_rope,
        attn_kv_a_norm=weights.vector(prefix + "attn_kv_a_norm.weight", rank),
        attn_k_b=k_b,
        attn_v_b=v_b,
        attn_output=weights.matrix(prefix + "attn_output.weight", n_embd, config.n_head * config.value_dim),
    )


def _latent_matrices(
    config: LatentConfig, weights: WeightSource, prefix: str
) -> tuple[QuantStack, QuantStack]:
    """k_b and v_b: two tensors, or older files' one that has each head's key rows and after them its value rows."""
    n_head, rank, nope, value = config.n_head, config.kv_lora_rank, config.nope_dim, config.value_dim
    if weights.has(prefix + "attn_k_b.weight") or not weights.has(prefix + "attn_kv_b.weight"):
        k_b = weights.stack(prefix + "attn_k_b.weight", n_head, rank, nope)
        return k_b, weights.stack(prefix + "attn_v_b.weight", n_head, value, rank)
    key_rows, value_rows = _rows_of_heads(n_head, nope, value)
    parts = [
        Part((n_head, rank, nope), key_rows, transposed=True),
        Part((n_head, value, rank), value_rows),
    ]
    first, second = weights.parts(prefix + "attn_kv_b.weight", (rank, n_head * (nope + value)), parts)
    return first, second


def _rows_of_heads(n_head: int, n_first: int, n_second: int) -> list[np.ndarray]:
    """Of a matrix that has n_first and then n_second rows for each head: the rows of the first kind, and the rest."""
    rows = np.arange(n_head * (n_first + n_second)).reshape(n_head, -1)
    return [rows[:, :n_first].reshape(-1), rows[:, n_first:].reshape(-1)]


def skipped(config: LatentConfig) -> dict[str, str]:
    """Tensors that a forward pass leaves out: pattern of names -> what they are."""
    copies = {"blk.*.attn_kv_b.weight": "what attn_k_b and attn_v_b hold too"}
    return extra_layers(config) | copies
