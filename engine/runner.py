"""One step on the backend: work -> forward pass -> logits of the rows someone reads -> tokens chosen from them.

Prefill and decode take the same path; only work that reaches a sequence's newest token has rows to choose from.
Submitting and collecting are two calls: on a backend that runs asynchronously the next step can be submitted between
them, so that a GPU has work while the host reads, sends and schedules.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import NamedTuple

from engine.batch import Chunk
from engine.choice_rows import RequestRows, TokenIds, rows_of
from engine.choosing import Sampled, sampled_tokens
from engine.forward import ForwardPass, Output, Predecessor
from engine.guides.masks import MaskThread
from engine.kv_cache import KVCache
from engine.models.model import Model
from engine.prompt_reads import PromptReader
from engine.types import TokenLogprobs
from engine.work import StepResult, Work
from kernels.choice_row import Chosen, ChosenTokens
from kernels.ops import Ops


class PendingStep(NamedTuple):
    """A step that was submitted and has yet to be collected."""

    works: Sequence[Work]
    n_rows: Sequence[int]  # each work's rows of the choice, counted when it was submitted
    chosen: Chosen | None = None  # None: no work has a row, or its choice is still owed
    fetched: Callable[[], ChosenTokens] | None = None  # `Ops.fetch_chosen`
    reads: Sequence[StepResult] | None = (
        None  # what the prompts' readers got, for each work; None: nobody reads
    )
    #: Logits from which `Runner.choose` has yet to choose: some row has a guide, whose mask needs all tokens before.
    owed: Output | None = None
    masks: "Future[None] | None" = None  # the guides' masks, on their way


class Runner:
    """Runs scheduled work through one model. Keeps nothing from step to step but the KV cache."""

    def __init__(self, model: Model, ops: Ops, kv: KVCache, tokens: TokenIds) -> None:
        self._ops = ops
        self._tokens = tokens
        self._forward = ForwardPass(model, ops, kv.groups, kv.block_size)
        self._reader = PromptReader(self._forward, ops, tokens)
        self._masks = MaskThread()

    def submit(self, works: Sequence[Work]) -> PendingStep:
        """Start a step; backends that have nothing to wait for also end it."""
        choosing = [work for work in works if work.reaches_end]
        if self._reader.has_reads(works):
            chosen, reads = self._reader.run(works, self._asked(choosing))
            return self._pending(works, chosen, reads)
        chunks = [_chunk(work) for work in works]
        if _is_guided(choosing):
            return self._submit_guided(works, chunks, choosing)
        output = self._forward.compute(chunks, self._asked(choosing))
        return self._pending(works, None if output is None else output.chosen)

    def _submit_guided(
        self, works: Sequence[Work], chunks: Sequence[Chunk], choosing: Sequence[Work]
    ) -> PendingStep:
        """Logits first: the masks are worked out while the backend computes them, by a thread where it blocks."""
        masks = None
        if not self._ops.runs_asynchronously:
            masks = self._masks.begin([work.request for work in choosing], self._tokens.n_words)
        output = self._forward.compute_held(chunks)
        return PendingStep(works, [work.n_rows for work in works], owed=output, masks=masks)

    def choose(self, pending: PendingStep) -> PendingStep:
        """The step with its choice under way. Every token before those that it chooses has been taken in."""
        if pending.owed is None:
            return pending
        if pending.masks is not None:
            pending.masks.result()
        pairs = zip(pending.works, pending.n_rows, strict=True)
        asked = self._asked([work for work, n_rows in pairs if n_rows])
        chosen = self._forward.choose(pending.owed, asked)
        return self._pending(pending.works, chosen, n_rows=pending.n_rows)

    def _asked(self, choosing: Sequence[Work]) -> RequestRows:
        return rows_of([w.request for w in choosing], self._tokens, drafts=[w.drafts for w in choosing])

    def submit_after(self, pending: PendingStep, works: Sequence[Work]) -> PendingStep:
        """Start the step after one that nobody has collected: each work's token is what that one chooses for it."""
        assert pending.chosen is not None
        row_of, n_rows = {}, 0
        for work, n in zip(pending.works, pending.n_rows, strict=True):
            row_of[id(work.request)] = n_rows
            n_rows += n
        requests = [work.request for work in works]
        chunks = [
            Chunk((0,), len(request.token_ids), request.block_ids, state_slot=request.state_slot)
            for request in requests
        ]
        predecessor = Predecessor(pending.chosen, [row_of[id(request)] for request in requests])
        if _is_guided(works):
            output = self._forward.compute_held(chunks, predecessor)
            return PendingStep(works, [1] * len(works), owed=output)
        asked = rows_of(requests, self._tokens, n_unread=1)
        output = self._forward.compute(chunks, asked, predecessor)
        assert output is not None
        return self._pending(works, output.chosen, n_rows=[1] * len(works))

    def collect(self, pending: PendingStep) -> list[StepResult]:
        """What came of each work; no tokens where it ends before the sequence does."""
        results = [StepResult(work) for work in pending.works] if pending.reads is None else pending.reads
        if pending.fetched is None:
            return list(results)
        pairs = list(zip(pending.works, pending.n_rows, strict=True))
        requests = [work.request for work, n in pairs for _ in range(n)]
        rows = iter(sampled_tokens(pending.fetched(), requests))
        return [
            _accepted(result, [next(rows) for _ in range(n)])
            for result, n in zip(results, pending.n_rows, strict=True)
        ]

    def _pending(
        self,
        works: Sequence[Work],
        chosen: Chosen | None,
        reads: Sequence[StepResult] | None = None,
        n_rows: Sequence[int] | None = None,
    ) -> PendingStep:
        n_rows = [work.n_rows for work in works] if n_rows is None else n_rows
        fetched = None if chosen is None else self._ops.fetch_chosen(chosen, sum(n_rows))
        return PendingStep(works, n_rows, chosen, fetched, reads)


def _is_guided(works: Sequence[Work]) -> bool:
    return any(work.request.guide is not None for work in works)


def _accepted(result: StepResult, rows: Sequence[Sampled]) -> StepResult:
    """result with the chosen tokens: the first row's, and the next one's while the draft before it was right."""
    token_ids: list[int] = []
    logprobs: list[TokenLogprobs] = []
    for i, row in enumerate(rows):
        if row.error is not None:
            return result._replace(token_ids=token_ids, logprobs=logprobs, error=row.error)
        token_ids.append(row.token_id)
        if row.logprobs is not None:
            logprobs.append(row.logprobs)
        if i < len(result.work.drafts) and row.token_id != result.work.drafts[i]:
            break
    return result._replace(token_ids=token_ids, logprobs=logprobs)


def _chunk(work: Work) -> Chunk:
    request = work.request
    return Chunk(work.token_ids, request.n_computed, request.block_ids, work.n_rows, request.state_slot)
