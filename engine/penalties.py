"""What penalties and biases do to a row of logits: one entry for each token that they change.

The same entries go to a device that chooses tokens (kernels/cuda/sampling.cu does with them what `changed` does).
"""

import numpy as np

from engine.request import Request
from engine.types import SamplingParams

#: 16 bytes, which go up as four int32.
CHANGE = np.dtype(
    [
        ("token_id", np.int32),
        ("n_answered", np.int32),  # times in the answer, 0 where no penalty asks
        ("is_seen", np.int32),  # 1 in prompt or answer, 0 where no penalty asks
        ("bias", np.float32),
    ]
)
NO_BIAS = np.float32(
    -0.0
)  # the one number that changes nothing, zeros of either sign included, when it is added


def changes_logits(params: SamplingParams) -> bool:
    """A row is not used as the model gives it."""
    return bool(params.logit_bias) or params.repetition_penalty != 1 or _counts_answers(params)


class KeptChanges:
    """The changes of one request from step to step: a step has one token more, and all the others are counted."""

    def __init__(self, request: Request) -> None:
        self._repeats = request.params.repetition_penalty != 1
        self._answers = _counts_answers(request.params)
        self._changes = _all_changes(request)
        self._place = {int(token_id): i for i, token_id in enumerate(self._changes["token_id"])}
        self._n_counted = len(request.token_ids)

    def of(self, request: Request) -> np.ndarray:
        """CHANGE [n_changed], ids once each; valid until the next call."""
        if self._repeats or self._answers:
            for token_id in request.token_ids[
                self._n_counted :
            ]:  # of the answer: the prompt was there at once
                self._count(token_id)
        self._n_counted = len(request.token_ids)
        return self._changes[: len(self._place)]

    def _count(self, token_id: int) -> None:
        at = self._place.setdefault(token_id, len(self._place))
        if at == len(self._changes):
            self._changes = np.concatenate([self._changes, np.zeros(max(at, 64), CHANGE)])
            self._changes["bias"][at:] = NO_BIAS
        change = self._changes[at]
        change["token_id"] = token_id
        change["is_seen"] |= self._repeats
        change["n_answered"] += self._answers


def changes_of(request: Request) -> np.ndarray:
    """CHANGE [n_changed], ids once each; valid until the next call for the request."""
    if request.changes is None:
        request.changes = KeptChanges(request)
    kept: KeptChanges = request.changes
    return kept.of(request)


def _all_changes(request: Request) -> np.ndarray:
    params, none = request.params, np.empty(0, np.int64)
    seen = np.unique(request.token_ids) if params.repetition_penalty != 1 else none
    answered, counts = none, none
    if request.n_output and _counts_answers(params):
        answered, counts = np.unique(request.token_ids[request.n_prompt :], return_counts=True)
    biased = np.fromiter(params.logit_bias, np.int64)
    ids = np.unique(np.concatenate([seen, answered, biased]))
    changes = np.zeros(len(ids), CHANGE)
    changes["token_id"], changes["bias"] = ids, NO_BIAS
    changes["is_seen"][np.searchsorted(ids, seen)] = 1
    changes["n_answered"][np.searchsorted(ids, answered)] = counts
    changes["bias"][np.searchsorted(ids, biased)] = np.fromiter(params.logit_bias.values(), np.float32)
    return changes


def changed(row: np.ndarray, changes: np.ndarray, params: SamplingParams) -> np.ndarray:
    """A copy of row [n_vocab] float32 with `changes_of` done to it: steps 1 and 2 of sampling.py.

    A float may overflow to an infinity.
    """
    row, ids = row.copy(), changes["token_id"]
    values, factor = row[ids], np.float32(params.repetition_penalty)
    n_answered = changes["n_answered"]
    penalty = (n_answered * params.frequency_penalty + params.presence_penalty).astype(np.float32)
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        repeated = np.where(values > 0, values / factor, values * factor)
        values = np.where(changes["is_seen"] > 0, repeated, values)
        values = np.where(n_answered > 0, values - penalty, values)
        row[ids] = values + changes["bias"]
    return row


def _counts_answers(params: SamplingParams) -> bool:
    return bool(params.frequency_penalty or params.presence_penalty)
