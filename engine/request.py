"""One request on its way through the engine: its tokens, how far they are computed, what it holds of the caches.

Plain data. The scheduler moves it, the runner reads it; nothing here decides anything.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from engine.guides.guide import Guide
from engine.types import NO_READS, PromptReads, SamplingParams


@dataclass(eq=False, slots=True)
class Request:
    """A request is its own identity: two with equal fields are still two."""

    request_id: str
    params: SamplingParams
    seed: int  # 0 <= seed < 2 ** 64
    token_ids: list[int]  # the prompt, then the answer so far
    n_prompt: int
    max_new_tokens: int
    reads: PromptReads = NO_READS
    guide: Guide | None = None
    arrival: int = -1  # the scheduler's count of requests; older is smaller
    n_computed: int = 0  # tokens whose keys and values are in the cache
    n_read: int = 0  # prompt tokens whose `reads` have been given; a preemption does not give them again
    block_ids: list[int] = field(default_factory=list)  # in the order of the tokens they hold
    state_slot: int | None = None  # while it runs, where the model keeps a recurrent state
    mask: Any = field(
        default=None, init=False, repr=False
    )  # the guide's, for the next token, once it is known
    failure: str | None = field(default=None, init=False)  # of the guide, one line
    kept_row: Any = field(default=None, init=False, repr=False)  # what choice_rows.py has worked out

    @property
    def n_output(self) -> int:
        """Tokens of the answer so far."""
        return len(self.token_ids) - self.n_prompt

    @property
    def n_pending(self) -> int:
        """Tokens to compute before the next one can be chosen: one while decoding, more in (re)prefill."""
        return len(self.token_ids) - self.n_computed

    def accept(self, n_computed: int, token_ids: Sequence[int]) -> None:
        """Take in a step: n_computed of its known tokens ran, and token_ids were chosen after them.

        All of token_ids but the last were drafts that ran too. A draft that was wrong leaves no trace: what it
        wrote to the cache lies past n_computed and is written again.
        """
        self.n_computed += n_computed + max(len(token_ids) - 1, 0)
        self.token_ids += token_ids
