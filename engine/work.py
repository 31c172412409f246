"""The one record of a step: what the scheduler asks for one request, and what came of it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from engine.request import Request
from engine.types import TokenLogprobs

if TYPE_CHECKING:
    import numpy as np


class Work(NamedTuple):
    """The next n_tokens of a request's known tokens run in a step, and after them drafts; its blocks are long enough.

    Drafts are guesses of the tokens that follow: only work that reaches the newest known token has any.
    """

    request: Request
    n_tokens: int
    drafts: tuple[int, ...] = ()

    @property
    def reaches_end(self) -> bool:
        """The newest known token is among the n_tokens, so its row of logits chooses the next one."""
        return self.n_tokens == self.request.n_pending

    @property
    def n_rows(self) -> int:
        """Rows of logits at its end that a token is chosen from: one, and one after each draft."""
        return 1 + len(self.drafts) if self.reaches_end else 0

    @property
    def token_ids(self) -> Sequence[int]:
        """What the step computes."""
        request = self.request
        known = request.token_ids[request.n_computed : request.n_computed + self.n_tokens]
        return [*known, *self.drafts] if self.drafts else known


class StepResult(NamedTuple):
    """What a step gave for one piece of work."""

    work: Work
    token_ids: Sequence[int] = ()  # chosen after the known tokens, in order; the drafts among them were right
    logprobs: Sequence[TokenLogprobs] = ()  # one for each of token_ids, where the request asks for them
    error: str | None = None  # why there is no further token, one line
    prompt_logprobs: Sequence[TokenLogprobs] = ()  # of prompt tokens that `PromptReads` asks for
    hidden: "np.ndarray | None" = None  # float32 [n_positions, n_embd], likewise
