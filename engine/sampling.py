"""From a row of logits to a token id, in NumPy. The order of steps is the meaning of SamplingParams.

1. repetition_penalty r, once for every id of prompt and answer: a positive logit / r, a negative one * r.
   Then for every id of the answer alone, seen n times: - n * frequency_penalty - presence_penalty.
2. + logit_bias.   3. / temperature.
4. top_k: the k highest logits.   5. top_p: the smallest set of the most probable that holds at least top_p of
   the mass left (masses.py).   6. min_p: those with at least min_p times the highest probability, which are those
   whose logit / temperature is at most -log(min_p) below the highest. Ties: the lower id.
7. The highest of logit + Gumbel noise (philox.py), which is a draw from the softmax of what is left.
Temperature 0 takes the highest logit after step 2, ties to the lower id; steps 3 to 7 have nothing to do.

Noise is drawn for the survivors only, and each row is worked on alone: its token depends on nothing else.
"""

import math
import secrets
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from engine.errors import RequestError
from engine.masses import masses, rate_of
from engine.penalties import changed, changes_logits, changes_of
from engine.philox import draw
from engine.request import Request
from engine.types import SamplingParams

MAX_LOGIT_BIAS = 1024  # entries
MAX_INT = 2**31 - 1

#: Field -> lowest, highest, whether the lowest itself is allowed.
FLOAT_RANGES: dict[str, tuple[float, float, bool]] = {
    "temperature": (0.0, 2.0, True),
    "top_p": (0.0, 1.0, False),
    "min_p": (0.0, 1.0, True),
    "repetition_penalty": (0.0, 10.0, False),
    "frequency_penalty": (-2.0, 2.0, True),
    "presence_penalty": (-2.0, 2.0, True),
}


class Sampled(NamedTuple):
    """The chosen id, or why there is none (one line) and -1."""

    token_id: int
    error: str | None = None


NOT_FINITE = Sampled(-1, "the model's logits are not finite")
ALL_MASKED = Sampled(-1, "every token of the vocabulary is masked")


def validate(params: SamplingParams, n_vocab: int) -> None:
    """Raises RequestError naming the first field that is out of its range."""
    for name, (lowest, highest, inclusive) in FLOAT_RANGES.items():
        value = getattr(params, name)
        if not _is_number(value) or not (lowest <= value if inclusive else lowest < value) or value > highest:
            words = (
                f"between {lowest:g} and {highest:g}"
                if inclusive
                else f"above {lowest:g}, at most {highest:g}"
            )
            raise RequestError(f"{name} must be a number {words}", param=name)
    _check_int("top_k", params.top_k, -1, MAX_INT)
    if params.max_tokens is not None:
        _check_int("max_tokens", params.max_tokens, 1, MAX_INT)
    if params.seed is not None:
        _check_int("seed", params.seed, -(2**63), 2**64 - 1)
    _check_logit_bias(params.logit_bias, n_vocab)


def resolve_seed(seed: int | None) -> int:
    """The Philox key: a signed seed modulo 2^64; without one, fresh random bits."""
    return secrets.randbits(64) if seed is None else seed % 2**64


def sample(logits: np.ndarray, requests: Sequence[Request]) -> list[Sampled]:
    """One token for each row: logits [n_rows, n_vocab] float32, row i for requests[i]; they are not changed.

    A row that has NaN or +inf after step 2 gives an error for its request alone; -inf masks a token.
    """
    return [_sample_row(row, request) for row, request in zip(logits, requests, strict=True)]


def of_peak(best: int, peak: float) -> Sampled:
    """The choice at temperature 0: best is the row's argmax, peak its logit or the row's first NaN."""
    if math.isfinite(peak):
        return Sampled(best)
    return ALL_MASKED if peak == -math.inf else NOT_FINITE


def _sample_row(row: np.ndarray, request: Request) -> Sampled:
    """row [n_vocab]"""
    params = request.params
    if changes_logits(params):
        row = changed(row, changes_of(request), params)
    best = int(row.argmax())  # the first NaN, if it has one
    highest = of_peak(best, float(row[best]))
    if highest.error or params.temperature == 0:
        return highest
    token_ids, scores = _survivors(row, params)
    return Sampled(draw(token_ids, scores, seed=request.seed, position=len(request.token_ids)))


def _survivors(row: np.ndarray, params: SamplingParams) -> tuple[np.ndarray, np.ndarray]:
    """Steps 3 to 6: ids in ascending order and their logits over temperature, float64, the highest 0."""
    token_ids = _top_k(row, params.top_k)
    if params.top_p < 1:
        token_ids = token_ids[_top_p(row[token_ids], params)]
    values = row[token_ids].astype(np.float64)
    with np.errstate(over="ignore"):  # a tiny temperature: all but the highest become -inf, as they should
        scores = (values - values.max()) / params.temperature
    if params.min_p > 0:
        keep = np.flatnonzero(scores >= math.log(params.min_p))
        token_ids, scores = token_ids[keep], scores[keep]
    return token_ids, scores


def _top_k(row: np.ndarray, k: int) -> np.ndarray:
    """Ids of the k highest values, ascending; of equal values the lower ids. k <= 0: all."""
    if not 0 < k < len(row):
        return np.arange(len(row))
    kth = np.partition(row, len(row) - k)[len(row) - k]
    above, equal = np.flatnonzero(row > kth), np.flatnonzero(row == kth)
    return np.sort(np.concatenate([above, equal[: k - len(above)]]))


def _top_p(values: np.ndarray, params: SamplingParams) -> np.ndarray:
    """Indices, ascending, of the smallest set with at least top_p of the mass; of equals the lower indices.

    values [n], logits. All those below (1 - top_p) / n of the mass hold less than 1 - top_p of it together, so none
    of them can be needed: only the others, and by a factor of two some more, are sorted, mostly a small part.
    """
    with np.errstate(over="ignore"):
        weights = masses(values - values.max(), rate_of(params.temperature))
    mass = float(weights.sum())
    candidates = np.flatnonzero(weights >= (1 - params.top_p) * mass / len(weights) / 2)
    order = candidates[np.argsort(-values[candidates], kind="stable")]
    sums = np.cumsum(weights[order]).astype(np.float64)
    n_kept = int(np.searchsorted(sums, params.top_p * mass)) + 1
    return np.sort(order[:n_kept])


def _check_logit_bias(logit_bias: Mapping[int, float], n_vocab: int) -> None:
    if len(logit_bias) > MAX_LOGIT_BIAS:
        raise RequestError(f"logit_bias has more than {MAX_LOGIT_BIAS} entries", param="logit_bias")
    for token_id, bias in logit_bias.items():
        if not _is_int(token_id) or not 0 <= token_id < n_vocab:
            raise RequestError(f"logit_bias names a token id outside 0 to {n_vocab - 1}", param="logit_bias")
        if not _is_number(bias) or not -100 <= bias <= 100:
            raise RequestError("logit_bias values must be numbers between -100 and 100", param="logit_bias")


def _check_int(name: str, value: object, lowest: int, highest: int) -> None:
    if not _is_int(value) or not lowest <= value <= highest:  # type: ignore[operator]
        raise RequestError(f"{name} must be an integer between {lowest} and {highest}", param=name)


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    """A finite int or float."""
    return _is_int(value) or (isinstance(value, float) and math.isfinite(value))
