"""Penalties and biases on a row of logits, step for step kernels/common/choice.h.

1. repetition_penalty r, once for every id of prompt and answer: a positive logit / r, a negative one * r.
   Then for every id of the answer alone, seen n times: - n * frequency_penalty - presence_penalty.
2. + bias.
"""

import numpy as np


def changed(logits: np.ndarray, changes: np.ndarray, row: np.void) -> np.ndarray:
    """A copy of logits [n_vocab] float32 with the changes [n_changes] CHANGE done to it; row: CHOICE_ROW.

    A float may overflow to an infinity.
    """
    logits, ids = logits.copy(), changes["token_id"]
    values, factor, n_answered = logits[ids], row["repetition_penalty"], changes["n_answered"]
    penalty = (n_answered * row["frequency_penalty"] + row["presence_penalty"]).astype(np.float32)
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        repeated = np.where(values > 0, values / factor, values * factor)
        values = np.where(changes["is_seen"] > 0, repeated, values)
        values = np.where(n_answered > 0, values - penalty, values)
        logits[ids] = values + changes["bias"]
    return logits
