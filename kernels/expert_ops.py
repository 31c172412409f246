"""The operations of a mixture of experts, and of any layer whose matrices come as a stack: part of `Ops` (ops.py).

A router's logits become a choice of experts for each token (`route`); the chosen experts' matrices are picked out
of a stack by their ids (`gated_experts`, `experts_sum`). Each product is `linear`'s, bit for bit: a token's results
do not depend on which other tokens chose the same expert.
"""

from typing import Any, NamedTuple, Protocol

from kernels.batches import Array
from kernels.quant_tensor import QuantStack

#: How logits become probabilities: a softmax over all experts, a sigmoid of each, or a softmax over the chosen ones
#: only, where the logits themselves are the scores.
GATINGS = ("softmax", "sigmoid", "softmax_chosen")

#: A sum that weights are divided by is at least this, so that weights of nothing stay nothing (transformers adds it).
LEAST_WEIGHT_SUM = 1e-20


class Routing(NamedTuple):
    """How a router's logits become a choice."""

    gating: str  # of GATINGS
    n_used: int  # experts of a token
    n_group: int = 1  # groups of consecutive experts
    n_group_used: int = 1  # groups that a token's experts may come from
    normalize: bool = False  # divide the chosen weights by their sum
    scale: float = 1.0  # of the weights, in the end


class Routed(NamedTuple):
    """The experts of each token and what their results are multiplied by."""

    experts: Array  # int32 [n_tokens, n_used], by falling score, ties by the lower id
    weights: Array  # float32 [n_tokens, n_used]


class ExpertOps(Protocol):
    """One backend's operations on stacks of matrices."""

    def load_stack(self, type_name: str, shape: tuple[int, int, int], data: Any) -> QuantStack:
        """Matrices for linear use from their file bytes: the rows of matrix 0, then of matrix 1, and so on.

        shape (n, n_out, n_in); data a uint8 buffer of exactly its size. `first_nonfinite_row` looks at the same
        bytes as one matrix [n * n_out, n_in]. Raises ValueError for a type, shape or size that does not fit.
        """

    def route(self, logits: Array, bias: Array | None, routing: Routing) -> Routed:
        """The experts of each token and their weights. logits [n_tokens, n_expert], bias [n_expert].

        scores = probabilities + bias: the bias chooses, and the weights are the probabilities without it. Of groups
        the n_group_used best are kept, by the sum of their two best scores, ties by the lower one. A score, or a
        group's sum, that is NaN counts as -infinity. Where a logit is NaN or infinite, its token gets the experts
        0, 1, ... and weights of NaN.
        A softmax over all experts is summed in 16 lanes (expert i in lane i % 16, rising) that are added by halves,
        other sums go in the order of the slots; the one that weights are divided by is at least LEAST_WEIGHT_SUM.
        Raises ValueError for a routing that does not fit the number of experts.
        """

    def gated_experts(self, x: Array, gate: QuantStack, up: QuantStack, routed: Routed) -> Array:
        """[n_tokens, n_in] -> [n_tokens, n_used, n_ff]: silu(gate_e x) * (up_e x) for each chosen expert e.

        Raises ValueError for an expert that the stacks do not have.
        """

    def experts_sum(self, h: Array, down: QuantStack, routed: Routed, residual: Array) -> Array:
        """[n_tokens, n_used, n_ff] -> [n_tokens, n_out]: residual + the sum of weight * (down_e h) over the slots.

        The sum starts at zero and takes one fused multiply-add a slot, in their order; the residual is added last.
        Raises ValueError for an expert that the stack does not have.
        """

    def linear_heads(self, x: Array, heads: QuantStack) -> Array:
        """[n_tokens, n_head, n_in] -> [n_tokens, n_head, n_out]: head i of each token through matrix i."""


def check_routing(routing: Routing, n_expert: int) -> None:
    """Raises ValueError where a routing does not fit that number of experts, in words for the reader of a file."""
    if routing.gating not in GATINGS:
        raise ValueError(f"no gating {routing.gating!r}; there are {', '.join(GATINGS)}")
    if not 1 <= routing.n_used <= n_expert:
        raise ValueError(f"{routing.n_used} of {n_expert} experts are used; 1 to {n_expert} work")
    if routing.n_group < 1 or n_expert % routing.n_group:
        raise ValueError(f"{n_expert} experts do not make {routing.n_group} equal groups")
    if not 1 <= routing.n_group_used <= routing.n_group:
        raise ValueError(f"{routing.n_group_used} of {routing.n_group} groups of experts are used")
    n_within = routing.n_group_used * (n_expert // routing.n_group)
    if routing.n_used > n_within:
        raise ValueError(
            f"{routing.n_used} experts are used, and the groups in use have no more than {n_within}"
        )
