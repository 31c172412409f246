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


def changes_of(request: Request) -> np.ndarray:
    """CHANGE [n_changed], ids ascending."""
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
