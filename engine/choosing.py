"""What was chosen for each row of a step, as the engine reads it."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from engine.request import Request
from engine.types import TokenLogprobs
from kernels.choice_row import ChosenTokens


class Sampled(NamedTuple):
    """The chosen id, or why there is none (one line) and -1."""

    token_id: int
    error: str | None = None
    logprobs: TokenLogprobs | None = None  # where the request asks for them


NOT_FINITE = Sampled(-1, "the model's logits are not finite")
NOTHING_ALLOWED = "every token of the vocabulary is masked"  # by what the request asks for
ALL_MASKED = Sampled(-1, NOTHING_ALLOWED)


def sampled_tokens(chosen: ChosenTokens, requests: Sequence[Request]) -> list[Sampled]:
    """One for each row, row i for requests[i]. A row whose logits are not finite is an error of its request alone."""
    pairs = zip(chosen.token_ids.tolist(), chosen.highest.tolist(), strict=True)
    sampled = [
        _sampled(token_id, highest) if request.failure is None else Sampled(-1, request.failure)
        for (token_id, highest), request in zip(pairs, requests, strict=True)
    ]
    if chosen.logprobs is None:
        return sampled
    return [
        each._replace(logprobs=logprobs_of(chosen, i, request.params.logprobs))
        if request.params.logprobs is not None and each.error is None
        else each
        for i, (each, request) in enumerate(zip(sampled, requests, strict=True))
    ]


def _sampled(token_id: int, highest: float) -> Sampled:
    if math.isfinite(highest):
        return Sampled(token_id)
    return ALL_MASKED if highest == -math.inf else NOT_FINITE


def logprobs_of(chosen: ChosenTokens, i: int, n_top: int) -> TokenLogprobs:
    """Of row i. A vocabulary may have fewer tokens than were asked for, and a row that is not finite has none."""
    assert chosen.logprobs is not None
    assert chosen.top_ids is not None
    assert chosen.top_logprobs is not None
    top = zip(chosen.top_ids[i, :n_top].tolist(), chosen.top_logprobs[i, :n_top].tolist(), strict=True)
    return TokenLogprobs(float(chosen.logprobs[i]), tuple(pair for pair in top if pair[0] >= 0))
