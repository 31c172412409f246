"""What a backend that chooses tokens needs to know of each row, and which rows are left to the host."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from engine.masses import rate_of
from engine.penalties import CHANGE, changes_logits, changes_of
from engine.request import Request

#: What the device draws a row by: 72 bytes, which go up as 18 int32. Temperature 0 takes the highest logit.
DRAW = np.dtype(
    [
        ("temperature", np.float64),
        ("floor", np.float64),  # of (logit - highest) / temperature, for tokens that may be drawn
        ("seed", np.uint64),
        ("position", np.uint32),
        ("top_k", np.uint32),  # only so many of the highest logits; 0: all
        ("top_p", np.float64),
        ("frequency_penalty", np.float64),
        ("presence_penalty", np.float64),
        ("repetition_penalty", np.float32),
        ("rate", np.float32),  # `masses.rate_of` the temperature
        ("n_unread", np.uint32),  # 1: the pass's own token of this row is an answer that no change counts yet
        ("", np.uint32),
    ]
)
#: Of a pass, 4 MiB; rows beyond them are the host's.
MAX_CHANGES = 1 << 18


class ChoicePlan(NamedTuple):
    """Of a pass's rows; NumPy arrays of what goes up."""

    draws: np.ndarray  # DRAW [n_rows]; the host's rows are as greedy ones
    changes: np.ndarray | None  # CHANGE [n_changes], perhaps none yet; None: no row can have any
    starts: np.ndarray  # int32 [n_rows + 1]: row i has changes[starts[i] : starts[i + 1]]
    by_host: list[int]  # rows that the host decides

    def padded(self, n_rows: int) -> "ChoicePlan":
        """With greedy rows up to n_rows."""
        n_more = n_rows - len(self.draws)
        draws, starts = np.pad(self.draws, (0, n_more)), np.pad(self.starts, (0, n_more), mode="edge")
        return self._replace(draws=draws, starts=starts)


def plan_choices(requests: Sequence[Request], n_unread: int = 0) -> ChoicePlan:
    """n_unread: tokens, 0 or 1, that each request has by then and that nobody has read."""
    draws = np.zeros(len(requests), DRAW)
    parts: list[np.ndarray] = []
    starts, by_host = [0], []
    for i, request in enumerate(requests):
        changes = changes_of(request) if changes_logits(request.params) else np.empty(0, CHANGE)
        if starts[-1] + len(changes) > MAX_CHANGES:
            changes = changes[:0]
            by_host.append(i)
        else:
            _fill(draws[i], request, n_unread)
        parts.append(changes)
        starts.append(starts[-1] + len(changes))
    can_change = any(changes_logits(request.params) for request in requests)
    all_changes = np.concatenate(parts) if can_change else None
    return ChoicePlan(draws, all_changes, np.array(starts, np.int32), by_host)


def _fill(draw: np.void, request: Request, n_unread: int) -> None:
    params = request.params
    draw["repetition_penalty"], draw["n_unread"] = params.repetition_penalty, n_unread
    draw["frequency_penalty"], draw["presence_penalty"] = params.frequency_penalty, params.presence_penalty
    if params.temperature:
        draw["temperature"], draw["rate"] = params.temperature, rate_of(params.temperature)
        draw["floor"] = math.log(params.min_p) if params.min_p > 0 else -math.inf
        draw["seed"], draw["position"] = request.seed, len(request.token_ids) + n_unread
        draw["top_k"], draw["top_p"] = max(params.top_k, 0), params.top_p
