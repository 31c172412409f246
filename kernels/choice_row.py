"""What choosing a token goes by: the NumPy side of kernels/common/choice_row.h, and what a choice gives back.

tests/kernels/test_choice_row.py holds each offset here against the C++ structs.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

Array = Any  # a backend's own

#: The most likely tokens whose log-probabilities one choice can give.
MAX_LOGPROBS = 20
#: The columns of `Chosen.logprobs`: the chosen token's, the most likely ids as int32 bits, theirs.
LOGPROB_COLUMNS = 1 + 2 * MAX_LOGPROBS
#: What narrows a row down, in the default order. A step's number is its place here.
STEPS = ("temperature", "top_k", "top_p", "min_p")

#: How the token of one row is chosen. Temperature 0 takes the highest logit, and the steps have nothing to do.
CHOICE_ROW = np.dtype(
    [
        ("temperature", np.float64),
        ("floor", np.float64),  # min_p: least (logit - highest) / temperature of a token that may be drawn
        ("top_p", np.float64),  # only the most probable tokens that hold so much of the mass; 1: all
        ("seed", np.uint64),
        ("frequency_penalty", np.float64),
        ("presence_penalty", np.float64),
        ("repetition_penalty", np.float32),
        ("rate", np.float32),  # `rate_of` the temperature
        ("position", np.uint32),  # tokens before the chosen one: the noise depends on it
        ("top_k", np.uint32),  # only so many of the highest logits; 0: all
        ("order", np.uint32),  # `order_of` the steps
        ("n_unread", np.uint32),  # 1: the pass's own token of this row is an answer that no change counts yet
        ("has_mask", np.uint32),  # 1: the bit mask has a row for this one
        ("wants_logprob", np.uint32),  # 1: of the chosen token
        ("n_top_logprobs", np.uint32),  # of the most likely tokens, at most MAX_LOGPROBS
        ("", np.uint32),
    ]
)

#: What happens to one logit of one row before a choice.
CHANGE = np.dtype(
    [
        ("token_id", np.int32),
        ("n_answered", np.int32),  # times in the answer, 0 where no penalty asks
        ("is_seen", np.int32),  # 1 in prompt or answer, 0 where no penalty asks
        ("bias", np.float32),  # added last; -infinity forbids the token
    ]
)
#: The one number that changes nothing when it is added, zeros of either sign included.
NO_BIAS = np.float32(-0.0)
#: The largest rate: float32's range with room for a factor.
LARGEST_RATE = 3e38


class Choices(NamedTuple):
    """What `Ops.choose` goes by. Backend arrays, int32."""

    rows: Array  # [n_rows, 22]: CHOICE_ROW
    starts: Array  # [n_rows + 1]: row i has changes[starts[i]:starts[i + 1]], ids once each
    token_ids: Array  # the pass's; row i's is at i where that row has n_unread
    #: [n_rows, ceil(n_vocab / 32)]: bit t % 32 of word t / 32 allows token t; None: no row has one.
    mask: Array | None
    changes: Array | None  # [n_changes, 4]: CHANGE; None: no logit is changed
    gives_logprobs: bool  # some row wants them


class Chosen(NamedTuple):
    """What `Ops.choose` gives, where it was computed. float32 arrays of the backend."""

    tokens: Array  # [n_rows, 2]: the highest logit, and the token id as int32 bits in a float's place
    logprobs: Array | None  # [n_rows, LOGPROB_COLUMNS]


class ChosenTokens(NamedTuple):
    """A choice on the host, a line for each row. All views of one step's memory."""

    token_ids: np.ndarray  # int32 [n_rows]
    #: float32 [n_rows]: the highest logit a token had; a row where it is not finite has no choice.
    highest: np.ndarray
    logprobs: np.ndarray | None  # float32 [n_rows], where a row wants it; None: no row does
    top_ids: np.ndarray | None  # int32 [n_rows, MAX_LOGPROBS], most likely first; -1 beyond what a row wants
    top_logprobs: np.ndarray | None  # float32 [n_rows, MAX_LOGPROBS]


def order_of(steps: Sequence[str]) -> int:
    """Two bits a step, the first one lowest."""
    return sum(STEPS.index(step) << 2 * i for i, step in enumerate(steps))


def rate_of(temperature: float) -> np.float32:
    """1 / temperature, and a number where that has none."""
    return np.float32(min(1.0 / temperature, LARGEST_RATE))


def as_ints(records: np.ndarray) -> np.ndarray:
    """Records [n] of CHOICE_ROW or CHANGE as backends take them: int32 [n, size / 4], the same memory."""
    return records.view(np.int32).reshape(len(records), records.itemsize // 4)


def on_host(chosen: Chosen, n_rows: int) -> ChosenTokens:
    """The first n_rows of a choice whose arrays are NumPy's."""
    tokens, logprobs = chosen.tokens[:n_rows], chosen.logprobs
    highest, token_ids = tokens[:, 0], tokens.view(np.int32)[:, 1]
    if logprobs is None:
        return ChosenTokens(token_ids, highest, None, None, None)
    logprobs = logprobs[:n_rows]
    top_ids = logprobs.view(np.int32)[:, 1 : 1 + MAX_LOGPROBS]
    return ChosenTokens(token_ids, highest, logprobs[:, 0], top_ids, logprobs[:, 1 + MAX_LOGPROBS :])
