"""What the architectures here truly share: the gated feed-forward network, the two token matrices, a missing bias."""

from dataclasses import dataclass

from engine.models.config import ModelConfig
from engine.models.weight_source import EMBED, LINEAR, WeightSource
from kernels.batches import Array
from kernels.ops import Ops
from kernels.quant_tensor import QuantTensor


@dataclass(frozen=True)
class FeedForward:
    """down(silu(gate(x)) * up(x)). No bias: None. Shazeer 2020, arXiv:2002.05202."""

    ffn_gate: QuantTensor  # [n_ff, n_embd]
    ffn_up: QuantTensor  # [n_ff, n_embd]
    ffn_down: QuantTensor  # [n_embd, n_ff]
    ffn_gate_bias: Array | None
    ffn_up_bias: Array | None
    ffn_down_bias: Array | None

    def forward(self, ops: Ops, x: Array, residual: Array) -> Array:
        """residual + the network's output. [n_tokens, n_embd] -> [n_tokens, n_embd]"""
        return projected(ops, self._gated(ops, x), self.ffn_down, self.ffn_down_bias, residual)

    def output(self, ops: Ops, x: Array) -> Array:
        """The network's output alone. [n_tokens, n_embd] -> [n_tokens, n_embd]"""
        return biased(ops, ops.linear(self._gated(ops, x), self.ffn_down), self.ffn_down_bias)

    def _gated(self, ops: Ops, x: Array) -> Array:
        """[n_tokens, n_ff]"""
        if self.ffn_gate_bias is None and self.ffn_up_bias is None:
            return ops.gated_linear(x, self.ffn_gate, self.ffn_up)
        gate, up = ops.linear_many(x, [self.ffn_gate, self.ffn_up])
        return ops.silu_mul(biased(ops, gate, self.ffn_gate_bias), biased(ops, up, self.ffn_up_bias))


def build_feed_forward(config: ModelConfig, weights: WeightSource, i: int) -> FeedForward:
    """That of layer i. Raises ModelFileError as the source does."""
    return feed_forward_of(weights, f"blk.{i}.", "", config.n_embd, config.n_ff)


def feed_forward_of(weights: WeightSource, prefix: str, suffix: str, n_embd: int, n_ff: int) -> FeedForward:
    """prefix and suffix: what stands before `ffn_gate` and after it in the file's names."""

    def name(part: str) -> str:
        return f"{prefix}ffn_{part}{suffix}"

    return FeedForward(
        ffn_gate=weights.matrix(name("gate") + ".weight", n_ff, n_embd),
        ffn_up=weights.matrix(name("up") + ".weight", n_ff, n_embd),
        ffn_down=weights.matrix(name("down") + ".weight", n_embd, n_ff),
        ffn_gate_bias=weights.optional_vector(name("gate") + ".bias", n_ff),
        ffn_up_bias=weights.optional_vector(name("up") + ".bias", n_ff),
        ffn_down_bias=weights.optional_vector(name("down") + ".bias", n_embd),
    )


def build_token_matrices(config: ModelConfig, weights: WeightSource) -> tuple[QuantTensor, QuantTensor]:
    """(token_embd, output), both [n_vocab, n_embd]: one matrix for both where the file has no output."""
    tied = not weights.has("output.weight")
    n_vocab, n_embd = config.n_vocab, config.n_embd
    token_embd = weights.matrix("token_embd.weight", n_vocab, n_embd, EMBED | LINEAR if tied else EMBED)
    return token_embd, token_embd if tied else weights.matrix("output.weight", n_vocab, n_embd)


def biased(ops: Ops, x: Array, bias: Array | None) -> Array:
    return x if bias is None else ops.add_bias(x, bias)


def projected(ops: Ops, x: Array, weight: QuantTensor, bias: Array | None, residual: Array) -> Array:
    """residual + (linear + bias): what an attention or a feed-forward network adds to the stream of activations."""
    if bias is None:
        return ops.linear_add(x, weight, residual)
    return ops.add(residual, ops.add_bias(ops.linear(x, weight), bias))
