"""A router's logits -> the experts of each token and their weights. What `Ops.route` means, in NumPy."""

import numpy as np

from kernels.expert_ops import LEAST_WEIGHT_SUM, Routed, Routing, check_routing

LANES = 16  # in which a softmax adds


def route(logits: np.ndarray, bias: np.ndarray | None, routing: Routing) -> Routed:
    """logits float32 [n_tokens, n_expert], bias float32 [n_expert] or None."""
    check_routing(routing, logits.shape[1])
    finite = np.isfinite(logits).all(axis=1)
    logits = np.where(finite[:, None], logits, 0)
    probs = _probabilities(logits, routing.gating)
    scores = probs if bias is None else probs + bias
    experts = _best(_of_best_groups(scores, routing), routing.n_used)
    experts = np.where(finite[:, None], experts, np.arange(routing.n_used))
    weights = np.take_along_axis(probs, experts, axis=1)
    if routing.gating == "softmax_chosen":
        powers = np.exp(weights - weights.max(axis=1, keepdims=True))
        weights = powers / _sum_in_order(powers)
    if routing.normalize:
        weights = weights / np.maximum(_sum_in_order(weights), np.float32(LEAST_WEIGHT_SUM))
    weights = np.where(finite[:, None], weights * np.float32(routing.scale), np.float32(np.nan))
    return Routed(experts.astype(np.int32), weights)


def _probabilities(logits: np.ndarray, gating: str) -> np.ndarray:
    """What the bias is added to, and what the weights are made from."""
    if gating == "softmax":
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        return powers / _sum_in_lanes(powers)
    if gating == "sigmoid":
        with np.errstate(over="ignore"):
            return 1 / (1 + np.exp(-logits))
    return logits


def _sum_in_lanes(x: np.ndarray) -> np.ndarray:
    """[n, m] -> [n, 1]: value i is added to lane i % LANES, lane i to lane i + 8, then i + 4, and so on."""
    lanes = np.zeros((len(x), LANES), np.float32)
    for first in range(0, x.shape[1], LANES):
        part = x[:, first : first + LANES]
        lanes[:, : part.shape[1]] += part
    while lanes.shape[1] > 1:
        half = lanes.shape[1] // 2
        lanes = lanes[:, :half] + lanes[:, half:]
    return lanes


def _sum_in_order(x: np.ndarray) -> np.ndarray:
    """[n, m] -> [n, 1]"""
    return np.add.accumulate(x, axis=1, dtype=np.float32)[:, -1:]


def _of_best_groups(scores: np.ndarray, routing: Routing) -> np.ndarray:
    """Scores, -infinity for experts outside the groups that a token may use and where they were NaN."""
    scores = np.where(np.isnan(scores), -np.inf, scores)
    if routing.n_group_used == routing.n_group:
        return scores
    by_group = scores.reshape(len(scores), routing.n_group, -1)
    two_best = -np.sort(-by_group, axis=2)[:, :, :2]
    with np.errstate(invalid="ignore"):
        group_scores = two_best.sum(axis=2, dtype=np.float32)
    group_scores = np.where(np.isnan(group_scores), -np.inf, group_scores)
    groups = _best(group_scores, routing.n_group_used)
    used = np.zeros(by_group.shape[:2], bool)
    np.put_along_axis(used, groups, True, axis=1)
    return np.where(used[:, :, None], by_group, -np.inf).reshape(scores.shape)


def _best(scores: np.ndarray, n: int) -> np.ndarray:
    """The columns of the n highest scores of each row, by falling score, ties by the lower column."""
    return np.argsort(-scores, axis=1, kind="stable")[:, :n]
