"""Which logits of a request are changed: one entry for each token, counted from step to step.

Penalties and biases change them, and min_tokens forbids the tokens that end an answer. What an entry does to its
logit is kernels/reference/changes.py's.
"""

from collections.abc import Collection, Sequence
from copy import copy

import numpy as np

from engine.request import Request
from engine.types import SamplingParams
from kernels.choice_row import CHANGE, NO_BIAS


def changes_logits(params: SamplingParams) -> bool:
    """A row is not used as the model gives it."""
    has_bias = bool(params.logit_bias) or params.min_tokens > 0
    return has_bias or params.repetition_penalty != 1 or _counts_answers(params)


class KeptChanges:
    """The changes of one request from step to step: a step has one token more, and all the others are counted."""

    def __init__(self, request: Request, end_ids: Collection[int]) -> None:
        self._repeats = request.params.repetition_penalty != 1
        self._answers = _counts_answers(request.params)
        self._end_ids = sorted(end_ids) if request.params.min_tokens > 0 else []
        self._forbids_ends = False
        self._changes = _all_changes(request, self._end_ids)
        self._place = {int(token_id): i for i, token_id in enumerate(self._changes["token_id"])}
        self._n_counted = len(request.token_ids)

    def of(self, request: Request, n_unread: int) -> np.ndarray:
        """CHANGE [n_changed], ids once each; valid until the next call. n_unread: tokens that nobody has read yet."""
        if self._repeats or self._answers:
            # These are tokens of the answer: the prompt was counted when the request came.
            for token_id in request.token_ids[self._n_counted :]:
                self._count(token_id)
        self._n_counted = len(request.token_ids)
        self._forbid_ends(request, request.n_output + n_unread < request.params.min_tokens)
        return self._changes[: len(self._place)]

    def after(self, request: Request, drafts: Sequence[int], n_unread: int) -> np.ndarray:
        """The same as if the drafts were tokens of the answer. They are counted anew, as many come to nothing."""
        if not drafts:
            return self.of(request, n_unread)
        continued = copy(request)
        continued.token_ids = [*request.token_ids, *drafts]
        return KeptChanges(continued, self._end_ids).of(continued, n_unread)

    def _forbid_ends(self, request: Request, forbids: bool) -> None:
        """Both ways: a step that was prepared ahead of its turn may be prepared again with a token less."""
        if forbids == self._forbids_ends:
            return
        self._forbids_ends = forbids
        for token_id in self._end_ids:
            bias = -np.inf if forbids else request.params.logit_bias.get(token_id, NO_BIAS)
            self._changes["bias"][self._place[token_id]] = bias

    def _count(self, token_id: int) -> None:
        at = self._place.setdefault(token_id, len(self._place))
        if at == len(self._changes):
            self._changes = np.concatenate([self._changes, np.zeros(max(at, 64), CHANGE)])
            self._changes["bias"][at:] = NO_BIAS
        change = self._changes[at]
        change["token_id"] = token_id
        change["is_seen"] |= self._repeats
        change["n_answered"] += self._answers


def _all_changes(request: Request, end_ids: Collection[int]) -> np.ndarray:
    params, none = request.params, np.empty(0, np.int64)
    seen = np.unique(request.token_ids) if params.repetition_penalty != 1 else none
    answered, counts = none, none
    if request.n_output and _counts_answers(params):
        answered, counts = np.unique(request.token_ids[request.n_prompt :], return_counts=True)
    biased = np.fromiter(params.logit_bias, np.int64)
    ids = np.unique(np.concatenate([seen, answered, biased, np.array(end_ids, np.int64)]))
    changes = np.zeros(len(ids), CHANGE)
    changes["token_id"], changes["bias"] = ids, NO_BIAS
    changes["is_seen"][np.searchsorted(ids, seen)] = 1
    changes["n_answered"][np.searchsorted(ids, answered)] = counts
    changes["bias"][np.searchsorted(ids, biased)] = np.fromiter(params.logit_bias.values(), np.float32)
    return changes


def _counts_answers(params: SamplingParams) -> bool:
    return bool(params.frequency_penalty or params.presence_penalty)
