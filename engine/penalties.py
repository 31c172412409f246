"""Which logits a request's penalties and biases change: one entry for each token, counted from step to step.

What an entry does to its logit is kernels/reference/changes.py's.
"""

import numpy as np

from engine.request import Request
from engine.types import SamplingParams
from kernels.choice_row import CHANGE, NO_BIAS


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


def _counts_answers(params: SamplingParams) -> bool:
    return bool(params.frequency_penalty or params.presence_penalty)
