"""From rows of logits to token ids, in NumPy: the judge of every backend's `choose`.

1. The row's changes (changes.py), then its bit mask: a token it does not allow has -infinity.
2. Temperature 0 takes the highest logit, ties to the lower id. Else the steps, in the row's order:
   temperature: logits are divided by it from here on, as they are for the draw wherever it stands.
   top_k: the k highest logits.   top_p: the smallest set of the most probable that holds at least top_p of the mass
   left (masses.py).   min_p: those with at least min_p times the highest probability, which are those whose
   logit / temperature is at most -log(min_p) below the highest.   Of equals the lower ids stay.
3. The highest of logit / temperature + Gumbel noise (philox.py): a draw from the softmax of what is left.

Noise is drawn for the survivors only, and each row is worked on alone: its token depends on nothing else.
Log-probabilities are those of the logits as the model gave them, before any change (logprobs.py).
"""

import math

import numpy as np

from kernels.choice_row import (
    CHANGE,
    CHOICE_ROW,
    LOGPROB_COLUMNS,
    NO_BIAS,
    STEPS,
    Choices,
    Chosen,
)
from kernels.reference.changes import changed
from kernels.reference.logprobs import logprobs_of
from kernels.reference.masses import masses
from kernels.reference.philox import draw


def choose(logits: np.ndarray, choices: Choices) -> Chosen:
    """`Ops.choose`. logits [n_rows, n_vocab] float32, which are not changed."""
    n_rows = len(logits)
    tokens = np.zeros((n_rows, 2), np.float32)
    logprobs = np.full((n_rows, LOGPROB_COLUMNS), np.nan, np.float32) if choices.gives_logprobs else None
    for i, row in enumerate(choices.rows.view(CHOICE_ROW)[:, 0]):
        highest, token_id = choose_token(_prepared(logits[i], row, i, choices), row)
        tokens[i, 0], tokens.view(np.int32)[i, 1] = highest, token_id
        if logprobs is not None:
            logprobs[i] = logprobs_of(logits[i], token_id, row)
    return Chosen(tokens, logprobs)


def pass_on(chosen: Chosen, rows: np.ndarray, token_ids: np.ndarray) -> None:
    """`Ops.pass_on`."""
    known = rows >= 0
    token_ids[known] = chosen.tokens.view(np.int32)[rows[known], 1]


def choose_token(values: np.ndarray, row: np.void) -> tuple[np.float32, int]:
    """The highest of values [n_vocab] (or their first NaN) and the chosen id. row: CHOICE_ROW."""
    best = int(values.argmax())  # the first NaN, if there is one
    highest = values[best]
    if row["temperature"] == 0 or not math.isfinite(highest):
        return highest, best
    token_ids = survivors(values, row)
    scores = _scores(values[token_ids], highest, float(row["temperature"]))
    return highest, draw(token_ids, scores, seed=int(row["seed"]), position=int(row["position"]))


def survivors(values: np.ndarray, row: np.void) -> np.ndarray:
    """Ids, ascending, that the steps leave of values [n_vocab], whose highest is finite."""
    token_ids, highest = np.arange(len(values)), values.max()
    temperature, rate = 1.0, np.float32(1)
    for i in range(len(STEPS)):
        step = STEPS[int(row["order"]) >> 2 * i & 3]
        if step == "temperature":
            temperature, rate = float(row["temperature"]), row["rate"]
        elif step == "top_k" and 0 < row["top_k"] < len(token_ids):
            token_ids = token_ids[_top_k(values[token_ids], int(row["top_k"]))]
        elif step == "top_p" and row["top_p"] < 1:
            token_ids = token_ids[_top_p(values[token_ids], highest, rate, float(row["top_p"]))]
        elif step == "min_p" and row["floor"] > -math.inf:
            token_ids = token_ids[_scores(values[token_ids], highest, temperature) >= row["floor"]]
    return token_ids


def _prepared(row_logits: np.ndarray, row: np.void, i: int, choices: Choices) -> np.ndarray:
    """Row i with its changes and its mask: row_logits itself where it has none."""
    values = row_logits
    if choices.changes is not None:
        changes = choices.changes[choices.starts[i] : choices.starts[i + 1]].view(CHANGE).reshape(-1)
        if row["n_unread"]:
            changes = _with_unread(changes, int(choices.token_ids[i]))
        if len(changes):
            values = changed(values, changes, row)
    if row["has_mask"]:
        assert choices.mask is not None
        allowed = np.unpackbits(choices.mask[i].view(np.uint8), count=len(values), bitorder="little")
        values = np.where(allowed, values, np.float32(-np.inf))
    return values


def _with_unread(changes: np.ndarray, token_id: int) -> np.ndarray:
    """A copy in which the token has been answered once more."""
    if token_id in changes["token_id"]:
        changes = changes.copy()
    else:
        changes = np.append(changes, np.array([(token_id, 0, 0, NO_BIAS)], CHANGE))
    at = changes["token_id"] == token_id
    changes["n_answered"][at] += 1
    changes["is_seen"][at] = 1
    return changes


def _scores(values: np.ndarray, highest: np.float32, temperature: float) -> np.ndarray:
    """(value - highest) / temperature, float64."""
    with np.errstate(over="ignore"):  # a tiny temperature: all but the highest become -inf, as they should
        return (values.astype(np.float64) - float(highest)) / temperature


def _top_k(values: np.ndarray, k: int) -> np.ndarray:
    """Indices, ascending, of the k highest values; of equals the lower indices. 0 < k < len(values)."""
    kth = np.partition(values, len(values) - k)[len(values) - k]
    above, equal = np.flatnonzero(values > kth), np.flatnonzero(values == kth)
    return np.sort(np.concatenate([above, equal[: k - len(above)]]))


def _top_p(values: np.ndarray, highest: np.float32, rate: np.float32, top_p: float) -> np.ndarray:
    """Indices, ascending, of the smallest set with at least top_p of the mass; of equals the lower indices.

    values [n], logits. All those below (1 - top_p) / n of the mass hold less than 1 - top_p of it together, so none
    of them can be needed: only the others, and by a factor of two some more, are sorted, mostly a small part.
    """
    with np.errstate(over="ignore"):
        weights = masses(values - highest, rate)
    mass = float(weights.sum())
    candidates = np.flatnonzero(weights >= (1 - top_p) * mass / len(weights) / 2)
    order = candidates[np.argsort(-values[candidates], kind="stable")]
    sums = np.cumsum(weights[order]).astype(np.float64)
    n_kept = int(np.searchsorted(sums, top_p * mass)) + 1
    return np.sort(order[:n_kept])
