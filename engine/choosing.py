"""What was chosen for each row of a step, as the engine reads it."""

import math
from typing import NamedTuple

from kernels.choice_row import ChosenTokens


class Sampled(NamedTuple):
    """The chosen id, or why there is none (one line) and -1."""

    token_id: int
    error: str | None = None


NOT_FINITE = Sampled(-1, "the model's logits are not finite")
ALL_MASKED = Sampled(-1, "every token of the vocabulary is masked")


def sampled_tokens(chosen: ChosenTokens) -> list[Sampled]:
    """One for each row. A row whose logits are not finite is an error of its request alone."""
    pairs = zip(chosen.token_ids.tolist(), chosen.highest.tolist(), strict=True)
    return [_sampled(token_id, highest) for token_id, highest in pairs]


def _sampled(token_id: int, highest: float) -> Sampled:
    if math.isfinite(highest):
        return Sampled(token_id)
    return ALL_MASKED if highest == -math.inf else NOT_FINITE
