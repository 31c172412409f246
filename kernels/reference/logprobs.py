"""Log-probabilities of tokens under the model alone: log-softmax of a row of logits as it gave them.

The softmax is summed in integers (masses.py), so that every backend gets the same bits in whatever order it adds; the
error of a log-probability, 4e-7, is that of a float32 near 4.
"""

import math

import numpy as np

from kernels.choice_row import LOGPROB_COLUMNS, MAX_LOGPROBS
from kernels.reference.masses import masses
from kernels.reference.plain_log import logarithm

WHOLE = 2.0**-40  # of a mass: that of the highest logit is 1


def logprobs_of(logits: np.ndarray, token_id: int, row: np.void) -> np.ndarray:
    """A row of `Chosen.logprobs` for logits [n_vocab] and the chosen token; row: CHOICE_ROW.

    NaN and the id -1 where the row asks for nothing, and everywhere where the highest logit is not finite.
    """
    out = np.full(LOGPROB_COLUMNS, np.nan, np.float32)
    top_ids, top = out.view(np.int32)[1 : 1 + MAX_LOGPROBS], out[1 + MAX_LOGPROBS :]
    top_ids[:] = -1
    if not math.isfinite(logits.max()):
        return out
    n_top = min(int(row["n_top_logprobs"]), len(logits))
    if row["wants_logprob"]:
        out[:1] = log_softmax(logits, np.array([token_id]))
    if n_top:
        top_ids[:n_top] = np.argsort(-logits, kind="stable")[:n_top]
        top[:n_top] = log_softmax(logits, top_ids[:n_top])
    return out


def log_softmax(logits: np.ndarray, token_ids: np.ndarray) -> np.ndarray:
    """float32 [len(token_ids)] for a row [n_vocab] whose highest is finite."""
    highest = logits.max()
    with np.errstate(over="ignore"):
        total = masses(logits - highest, np.float32(1)).sum()
        log_total = logarithm(np.array([float(total) * WHOLE]))[0]
        return ((logits[token_ids].astype(np.float64) - float(highest)) - log_total).astype(np.float32)
