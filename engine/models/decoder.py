"""The decoder that most architectures are: layers of attention and a feed-forward network, each added to the stream.

An architecture says how a layer's two parts are built (its file in this folder); the forward pass is here.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from engine.batch import Batch
from engine.models.config import ModelConfig
from engine.models.parts import build_token_matrices
from engine.models.rope import Rope, build_rope
from engine.models.weight_source import WeightSource
from kernels.batches import Array, LayerCache
from kernels.cache_groups import CacheGroup, PagedGroup
from kernels.ops import Ops
from kernels.quant_tensor import QuantTensor


class AttentionPart(Protocol):
    """[n_tokens, n_embd], normed -> residual + what attention makes of it. angles: `ops.rope_angles`."""

    def forward(
        self, ops: Ops, x: Array, *, angles: Array, batch: Batch, cache: LayerCache, residual: Array
    ) -> Array: ...


class FeedForwardPart(Protocol):
    """[n_tokens, n_embd], normed -> residual + the network's output."""

    def forward(self, ops: Ops, x: Array, residual: Array) -> Array: ...


@dataclass(frozen=True)
class DecoderLayer:
    """One transformer block."""

    attn_norm: Array  # [n_embd]
    attention: AttentionPart
    ffn_norm: Array  # [n_embd]
    ffn: FeedForwardPart
    group: int = 0  # of the decoder's cache groups, which the attention's cache is in


@dataclass(frozen=True)
class Decoder:
    """A `Model` of such layers."""

    config: ModelConfig
    groups: tuple[CacheGroup, ...]
    token_embd: QuantTensor  # [n_vocab, n_embd]
    layers: tuple[DecoderLayer, ...]
    output_norm: Array  # [n_embd]
    output: QuantTensor  # [n_vocab, n_embd]
    rope: Rope

    def cache_groups(self) -> tuple[CacheGroup, ...]:
        return self.groups

    def forward(self, ops: Ops, batch: Batch, caches: Sequence[Sequence[LayerCache]]) -> Array:
        eps = self.config.rms_eps
        angles = ops.rope_angles(batch.positions, self.rope.freqs, self.rope.mscale)
        x = ops.embed(self.token_embd, batch.token_ids)  # [n_tokens, n_embd]
        following = [iter(group) for group in caches]
        for layer in self.layers:
            cache, normed = next(following[layer.group]), ops.rms_norm(x, layer.attn_norm, eps)
            x = layer.attention.forward(ops, normed, angles=angles, batch=batch, cache=cache, residual=x)
            x = layer.ffn.forward(ops, ops.rms_norm(x, layer.ffn_norm, eps), residual=x)
        return ops.rms_norm(ops.take_rows(x, batch.hidden_rows), self.output_norm, eps)

    def logits(self, ops: Ops, hidden: Array) -> Array:
        return ops.linear(hidden, self.output)


#: (config, weights, i) -> a part of layer i
BuildAttention = Callable[[Any, WeightSource, int], AttentionPart]
BuildFeedForward = Callable[[Any, WeightSource, int], FeedForwardPart]


def build_decoder(
    config: ModelConfig,
    weights: WeightSource,
    attention: BuildAttention,
    feed_forward: BuildFeedForward,
    *,
    ffn_norm: str = "ffn_norm",
    groups: tuple[CacheGroup, ...] | None = None,
    group_of: Callable[[int], int] = lambda i: 0,
) -> Decoder:
    """ffn_norm: what the file calls the norm before the feed-forward network. groups: of caches, and which of them
    layer i has its cache in; None: keys and values of every layer alike.

    Raises ModelFileError for a missing tensor or a shape that the hyperparameters do not give.
    """

    def layer(i: int) -> DecoderLayer:
        return DecoderLayer(
            attn_norm=weights.vector(f"blk.{i}.attn_norm.weight", config.n_embd),
            attention=attention(config, weights, i),
            ffn_norm=weights.vector(f"blk.{i}.{ffn_norm}.weight", config.n_embd),
            ffn=feed_forward(config, weights, i),
            group=group_of(i),
        )

    token_embd, output = build_token_matrices(config, weights)
    return Decoder(
        config=config,
        groups=groups or (PagedGroup(config.n_layer, config.n_head_kv, config.head_dim),),
        token_embd=token_embd,
        layers=tuple(layer(i) for i in range(config.n_layer)),
        output_norm=weights.vector("output_norm.weight", config.n_embd),
        output=output,
        rope=build_rope(config.rope, weights),
    )
