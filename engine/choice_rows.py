"""Requests into the rows that a backend chooses by: the one place that knows both sides' names."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from engine.penalties import changes_logits, changes_of
from engine.request import Request
from engine.types import SamplingParams
from kernels.choice_row import CHANGE, CHOICE_ROW, STEPS, Choices, as_ints, order_of, rate_of
from kernels.ops import Array, Ops


class RequestRows(NamedTuple):
    """A step's rows on the host: what `Choices` says of each field."""

    rows: np.ndarray  # CHOICE_ROW [n_rows]
    starts: np.ndarray  # int32 [n_rows + 1]
    changes: np.ndarray | None  # CHANGE [n_changes], perhaps none yet; None: no row can have any

    def padded(self, n_rows: int) -> "RequestRows":
        """With greedy rows up to n_rows."""
        n_more = n_rows - len(self.rows)
        rows, starts = np.pad(self.rows, (0, n_more)), np.pad(self.starts, (0, n_more), mode="edge")
        return self._replace(rows=rows, starts=starts)

    def on(self, ops: Ops, token_ids: Array) -> Choices:
        """On the backend. token_ids: of the pass.

        Changes come last: they may be any number, as no array that a recorded pass reads comes after them.
        """
        rows, starts = ops.index_array(as_ints(self.rows)), ops.index_array(self.starts)
        changes = None if self.changes is None else ops.index_array(as_ints(self.changes))
        return Choices(rows, starts, token_ids, None, changes, gives_logprobs=False)


def rows_of(requests: Sequence[Request], n_unread: int = 0) -> RequestRows:
    """n_unread: tokens, 0 or 1, that each request has by then and that nobody has read."""
    rows = np.zeros(len(requests), CHOICE_ROW)
    rows["n_unread"], rows["order"] = n_unread, order_of(STEPS)
    can_change = any(changes_logits(request.params) for request in requests)
    parts, starts = [np.empty(0, CHANGE)], [0]
    for row, request in zip(rows, requests, strict=True):
        _fill(row, request.params)
        row["seed"], row["position"] = request.seed, len(request.token_ids) + n_unread
        if changes_logits(request.params):
            parts.append(changes_of(request))
        starts.append(starts[-1] + (len(parts[-1]) if changes_logits(request.params) else 0))
    return RequestRows(rows, np.array(starts, np.int32), np.concatenate(parts) if can_change else None)


def _fill(row: np.void, params: SamplingParams) -> None:
    row["repetition_penalty"] = params.repetition_penalty
    row["frequency_penalty"], row["presence_penalty"] = params.frequency_penalty, params.presence_penalty
    if params.temperature:
        row["temperature"], row["rate"] = params.temperature, rate_of(params.temperature)
        row["floor"] = math.log(params.min_p) if params.min_p > 0 else -math.inf
        row["top_k"], row["top_p"] = max(params.top_k, 0), params.top_p
