"""Log-probabilities and hidden states of prompts: rows of a pass that are read besides the one that chooses a token.

Logits are made for a few rows at a time, so that a prompt of any length needs no memory for logits of all its tokens.
A token's log-probability is what a choice gives for a row that allows that token alone.
"""

from collections.abc import Sequence

from engine.batch import Chunk
from engine.choice_rows import RequestRows, TokenIds, rows_of_targets
from engine.choosing import logprobs_of
from engine.forward import ForwardPass
from engine.request import Request
from engine.types import TokenLogprobs
from engine.work import StepResult, Work
from kernels.batches import Array
from kernels.choice_row import Chosen
from kernels.ops import Ops

ROWS_AT_ONCE = 32


class PromptReader:
    """Runs steps in which a prompt is read."""

    def __init__(self, forward: ForwardPass, ops: Ops, tokens: TokenIds) -> None:
        self._forward, self._ops, self._tokens = forward, ops, tokens

    def has_reads(self, works: Sequence[Work]) -> bool:
        return any(_positions(work) for work in works)

    def run(self, works: Sequence[Work], asked: RequestRows) -> tuple[Chosen | None, list[StepResult]]:
        """The choice of the rows that choose, as `asked` says, and a result without tokens for each work."""
        chunks = [_chunk(work) for work in works]
        hidden = self._forward.hidden_rows(chunks)
        results: list[StepResult] = []
        choosing: list[int] = []
        end = 0  # rows of the works so far
        for work, chunk in zip(works, chunks, strict=True):
            end += chunk.want_rows
            choosing += range(end - work.n_rows, end)
            results.append(self._read(work, hidden, end - chunk.want_rows))
        return (self._forward.choose_from(hidden, choosing, asked) if choosing else None), results

    def _read(self, work: Work, hidden: Array, first_row: int) -> StepResult:
        """What the work's request reads; first_row: the row of its first position."""
        positions = _positions(work)
        request, n = work.request, len(positions)
        if not n:
            return StepResult(work)
        logprobs: list[TokenLogprobs] = []
        targets = request.token_ids[positions.start + 1 : min(positions.stop + 1, request.n_prompt)]
        if request.reads.logprobs is not None:
            for i in range(0, len(targets), ROWS_AT_ONCE):
                part = targets[i : i + ROWS_AT_ONCE]
                rows = range(first_row + i, first_row + i + len(part))
                logprobs += self._logprobs(hidden, rows, part, request)
        states = None
        if request.reads.hidden:
            states = self._forward.hidden_on_host(hidden, range(first_row, first_row + n))
        return StepResult(work, prompt_logprobs=logprobs, hidden=states)

    def _logprobs(
        self, hidden: Array, rows: Sequence[int], targets: Sequence[int], request: Request
    ) -> list[TokenLogprobs]:
        assert request.reads.logprobs is not None
        asked = rows_of_targets(targets, request.reads.logprobs, self._tokens)
        chosen = self._forward.choose_from(hidden, rows, asked)
        tokens = self._ops.fetch_chosen(chosen, len(rows))()
        return [logprobs_of(tokens, i, request.reads.logprobs) for i in range(len(rows))]


def _positions(work: Work) -> range:
    """Positions of the prompt that this work computes and whose reads have not been given."""
    request = work.request
    if request.reads.logprobs is None and not request.reads.hidden:
        return range(0)
    end = min(request.n_computed + work.n_tokens, request.n_prompt)
    return range(max(request.n_computed, request.n_read), end)


def _chunk(work: Work) -> Chunk:
    """All rows from the first one that is read, or those that choose."""
    token_ids, start = work.token_ids, work.request.n_computed
    positions = _positions(work)
    n_read = start + len(token_ids) - positions.start if positions else 0
    request = work.request
    return Chunk(token_ids, start, request.block_ids, max(work.n_rows, n_read), request.state_slot)
