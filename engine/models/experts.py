"""A mixture of experts in the place of a feed-forward network: a router chooses a few of many for each token.

Shazeer et al. 2017, arXiv:1701.06538; shared experts, which every token passes: DeepSeekMoE, arXiv:2401.06066.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from engine.metadata_reader import MetadataReader
from engine.models.config import MAX_WIDTH, ModelConfig
from engine.models.parts import FeedForward, feed_forward_of
from engine.models.weight_source import WeightSource
from kernels.batches import Array
from kernels.expert_ops import Routing, check_routing
from kernels.ops import Ops
from kernels.quant_tensor import QuantStack, QuantTensor

MAX_EXPERTS = 1 << 16
#: `expert_gating_func`; 0 is written where a file does not say.
GATING_BY_ID = {1: "softmax", 2: "sigmoid", 3: "softmax_chosen"}


@dataclass(frozen=True)
class ExpertsConfig:
    """The mixture of experts of a layer."""

    n_expert: int
    n_ff: int  # of each expert
    routing: Routing
    n_ff_shared: int = 0  # of the shared experts together; 0: there are none


@dataclass(frozen=True, kw_only=True)
class MoeConfig(ModelConfig):
    """A model with experts in all layers but the first n_dense_layers."""

    experts: ExpertsConfig
    n_dense_layers: int = 0


class SharedOutput(NamedTuple):
    """What shared experts make of a pass, yet to be added to it."""

    y: Array  # [n_tokens, n_embd]
    gate: Array | None  # [n_tokens, 1]


@dataclass(frozen=True)
class SharedExperts:
    """Experts that every token passes: one feed-forward network, which a sigmoid may scale."""

    ffn: FeedForward
    ffn_gate_inp_shexp: QuantTensor | None  # [1, n_embd]

    def forward(self, ops: Ops, x: Array, residual: Array) -> Array:
        """residual + their output. [n_tokens, n_embd] -> [n_tokens, n_embd]"""
        if self.ffn_gate_inp_shexp is None:
            return self.ffn.forward(ops, x, residual)
        return self.added(ops, residual, self.output(ops, x))

    def output(self, ops: Ops, x: Array) -> SharedOutput:
        gate = None if self.ffn_gate_inp_shexp is None else ops.linear(x, self.ffn_gate_inp_shexp)
        return SharedOutput(self.ffn.output(ops, x), gate)

    def added(self, ops: Ops, residual: Array, output: SharedOutput) -> Array:
        """The bits of `forward`."""
        if output.gate is None:
            return ops.add(residual, output.y)
        return ops.add_gated(residual, output.y, output.gate)


@dataclass(frozen=True)
class Experts:
    """residual + the weighted sum of the chosen experts + the shared ones. Names as in GGUF.

    host: the backend of the router and the experts where that is another than the model's; the shared ones are
    computed meanwhile. The sum and its bits are the same.
    """

    routing: Routing
    ffn_gate_inp: QuantTensor  # [n_expert, n_embd]
    exp_probs_b: Array | None  # [n_expert], added to the probabilities that choose
    ffn_gate_exps: QuantStack  # [n_expert, n_ff, n_embd]
    ffn_up_exps: QuantStack  # [n_expert, n_ff, n_embd]
    ffn_down_exps: QuantStack  # [n_expert, n_embd, n_ff]
    shared: SharedExperts | None
    host: Ops | None

    def forward(self, ops: Ops, x: Array, residual: Array) -> Array:
        """[n_tokens, n_embd] -> [n_tokens, n_embd]"""
        if self.host is not None:
            return self._forward_beside(ops, x, residual)
        y = self._routed(ops, x, residual)
        return y if self.shared is None else self.shared.forward(ops, x, residual=y)

    def _routed(self, ops: Ops, x: Array, residual: Array) -> Array:
        """residual + the chosen experts."""
        routed = ops.route(ops.linear(x, self.ffn_gate_inp), self.exp_probs_b, self.routing)
        hidden = ops.gated_experts(x, self.ffn_gate_exps, self.ffn_up_exps, routed)
        return ops.experts_sum(hidden, self.ffn_down_exps, routed, residual)

    def _forward_beside(self, ops: Ops, x: Array, residual: Array) -> Array:
        shared = self.shared
        total, output = ops.beside(
            x, self._on_host, x.shape[1], lambda: None if shared is None else shared.output(ops, x)
        )
        y = ops.add(residual, total)
        return y if shared is None or output is None else shared.added(ops, y, output)

    def _on_host(self, x: np.ndarray) -> np.ndarray:
        """Zero plus the sum of experts is that sum: it begins at zero (`experts_sum`)."""
        assert self.host is not None
        total: np.ndarray = self._routed(self.host, x, np.zeros_like(x))
        return total


def read_experts(
    keys: MetadataReader, *, gating: str, normalize: bool, n_ff: int | None = None
) -> ExpertsConfig:
    """gating, normalize and n_ff: what holds where the file does not say. Raises ModelFileError."""
    n_expert = keys.integer("expert_count", 1, MAX_EXPERTS)
    gating_id = keys.integer("expert_gating_func", 0, max(GATING_BY_ID), default=0)
    n_ff_expert = keys.integer("expert_feed_forward_length", 1, MAX_WIDTH, default=n_ff)
    n_shared = keys.integer("expert_shared_count", 0, 64, default=0)
    routing = Routing(
        gating=GATING_BY_ID.get(gating_id, gating),
        n_used=keys.integer("expert_used_count", 1, n_expert),
        n_group=keys.integer("expert_group_count", 0, n_expert, default=1) or 1,
        n_group_used=keys.integer("expert_group_used_count", 0, n_expert, default=1) or 1,
        normalize=keys.boolean("expert_weights_norm", default=normalize),
        scale=keys.number("expert_weights_scale", 0.0, 1e4, default=1.0) or 1.0,
    )
    try:
        check_routing(routing, n_expert)
    except ValueError as error:
        raise keys.error("expert_used_count", str(error)) from None
    n_ff_shared = keys.integer(
        "expert_shared_feed_forward_length", 0, MAX_WIDTH, default=n_shared * n_ff_expert
    )
    return ExpertsConfig(n_expert, n_ff_expert, routing, n_ff_shared)


def build_experts(
    config: MoeConfig,
    weights: WeightSource,
    i: int,
    *,
    may_have_bias: bool = False,
    gated_shared: bool = False,
) -> Experts:
    """Those of layer i. may_have_bias: a bias may choose among them; gated_shared: a sigmoid scales the shared ones.

    Raises ModelFileError as the source does.
    """
    prefix, experts = f"blk.{i}.", config.experts
    n, n_ff, n_embd = experts.n_expert, experts.n_ff, config.n_embd
    gate, up = _gate_and_up(weights, prefix, n, n_ff, n_embd)
    return Experts(
        routing=experts.routing,
        ffn_gate_inp=weights.matrix(prefix + "ffn_gate_inp.weight", n, n_embd),
        exp_probs_b=weights.optional_vector(prefix + "exp_probs_b.bias", n) if may_have_bias else None,
        ffn_gate_exps=gate,
        ffn_up_exps=up,
        ffn_down_exps=weights.stack(prefix + "ffn_down_exps.weight", n, n_embd, n_ff),
        shared=_build_shared(weights, prefix, n_embd, experts.n_ff_shared, gated=gated_shared),
        host=weights.host_of(prefix + "ffn_down_exps.weight"),
    )


def _build_shared(
    weights: WeightSource, prefix: str, n_embd: int, n_ff: int, *, gated: bool
) -> SharedExperts | None:
    if n_ff == 0:
        return None
    gate = weights.matrix(prefix + "ffn_gate_inp_shexp.weight", 1, n_embd) if gated else None
    return SharedExperts(feed_forward_of(weights, prefix, "_shexp", n_embd, n_ff), gate)


def _gate_and_up(
    weights: WeightSource, prefix: str, n: int, n_ff: int, n_embd: int
) -> tuple[QuantStack, QuantStack]:
    """Two tensors, or one that has each expert's gate rows and after them its up rows."""
    fused = prefix + "ffn_gate_up_exps.weight"
    if weights.has(fused):
        return weights.stack_halves(fused, n, n_ff, n_embd)
    gate, up = (prefix + f"ffn_{part}_exps.weight" for part in ("gate", "up"))
    return weights.stack(gate, n, n_ff, n_embd), weights.stack(up, n, n_ff, n_embd)
