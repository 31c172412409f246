"""The engine: add requests, call step() until there is no work, read the events. Synchronous, one thread.

It wires the parts and decides what ends a request. Who runs is the scheduler's business, what the tokens are
the model's and the sampler's. Text, stop strings and clients live on the other side of the door.
"""

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from engine.block_pool import BlockPool
from engine.choice_rows import TokenIds
from engine.errors import ContextLengthError, EspalierError, RequestError
from engine.guides.guide import Guide
from engine.guides.masks import failure_of
from engine.kv_cache import CacheShape, KVCache, new_kv_cache
from engine.request import Request
from engine.runner import PendingStep, Runner
from engine.sampling import resolve_seed, validate
from engine.scheduler import Draft, Scheduler
from engine.types import (
    NO_READS,
    EngineConfig,
    EngineStats,
    FinishReason,
    ModelFacts,
    PromptReads,
    SamplingParams,
    TokenEvent,
)
from engine.work import StepResult

if TYPE_CHECKING:
    from engine.loading import LoadedModel

logger = logging.getLogger("espalier.engine")


class Engine:
    """Owns the KV cache of one loaded model and every unfinished request.

    One thread calls add, abort, step, fail_all, check_integrity and stats; `validate` and the attributes are
    anyone's. Raises ResourceError where the KV cache does not fit, EspalierError for an impossible config.
    """

    def __init__(self, loaded: "LoadedModel", config: EngineConfig, draft: Draft | None = None) -> None:
        model = loaded.config
        self.config = config
        self.name = loaded.name
        self.tokenizer = loaded.tokenizer
        self.chat_template = loaded.chat_template
        self.n_vocab: int = model.n_vocab
        self.facts = ModelFacts(
            model.architecture,
            model.n_ctx_train,
            model.n_embd,
            loaded.n_weights,
            loaded.file_bytes,
            model.pooling,
        )
        self.ctx_size: int = model.n_ctx_max if config.ctx_size is None else config.ctx_size
        _check_config(config, self.ctx_size, model.n_ctx_max)
        self._eos_ids: frozenset[int] = loaded.tokenizer.eos_ids if loaded.tokenizer else frozenset()
        shape = CacheShape(loaded.model.cache_groups(), config.kv_type)
        self.kv: KVCache = new_kv_cache(loaded.ops, shape, config, self.ctx_size, self.n_vocab)
        if draft is not None and self.kv.n_slots:
            raise EspalierError("drafts need a state that can be taken back, and this model's cannot")
        self.max_running: int = min(config.max_batch, self.kv.n_slots or config.max_batch)
        self._runner = Runner(loaded.model, loaded.ops, self.kv, TokenIds(self.n_vocab, self._eos_ids))
        self._looks_ahead = loaded.ops.runs_asynchronously
        self._pending: PendingStep | None = None  # submitted ahead of its turn
        self._scheduler = Scheduler(
            BlockPool(self.kv.n_blocks, self.kv.block_size),
            max_batch=self.max_running,
            step_tokens=config.step_tokens,
            max_queue=config.max_queue,
            draft=draft,
            n_slots=self.kv.n_slots,
        )

    @property
    def has_work(self) -> bool:
        return self._scheduler.has_work

    def validate(self, prompt_ids: Sequence[int], params: SamplingParams) -> None:
        """What `add` checks of one request alone. Raises RequestError or ContextLengthError. Thread-safe."""
        validate(params, self.n_vocab)
        if not prompt_ids:
            raise RequestError("the prompt is empty", param="prompt")
        if len(prompt_ids) >= self.ctx_size:
            raise ContextLengthError(len(prompt_ids), self.ctx_size)
        if min(prompt_ids) < 0 or max(prompt_ids) >= self.n_vocab:
            raise RequestError(f"the prompt has a token id outside 0 to {self.n_vocab - 1}", param="prompt")

    def add(
        self,
        request_id: str,
        prompt_ids: Sequence[int],
        params: SamplingParams,
        reads: PromptReads = NO_READS,
        guide: Guide | None = None,
    ) -> None:
        """Queue a request, its guide its own. Raises as `validate`, QueueFullError, ValueError for an id in use."""
        self.validate(prompt_ids, params)
        n_prompt = len(prompt_ids)
        n_left = self.ctx_size - n_prompt
        self._scheduler.add(
            Request(
                request_id=request_id,
                params=params,
                seed=resolve_seed(params.seed),
                token_ids=list(prompt_ids),
                n_prompt=n_prompt,
                max_new_tokens=n_left if params.max_tokens is None else min(params.max_tokens, n_left),
                reads=reads,
                guide=guide,
            )
        )

    def abort(self, request_id: str) -> None:
        """Forget it, in whatever phase: its blocks are free, no event follows. Unknown id: nothing."""
        self._scheduler.remove(request_id)

    def step(self) -> list[TokenEvent]:
        """The events of one forward pass, if there is work: the requests that have new tokens or have ended.

        Where the backend runs asynchronously, the pass after it is submitted before its tokens are read, so that a
        GPU never waits.
        An exception is our bug. It loses no request: the next step repeats this one, and where the model keeps
        recurrent states, which cannot be taken back, running requests are computed again from their tokens. Or call
        `fail_all`.
        """
        try:
            return self._step()
        except BaseException:
            if self.kv.n_slots:
                self._scheduler.preempt_all()
            raise

    def _step(self) -> list[TokenEvent]:
        pending, self._pending = self._pending, None
        if pending is None or not any(self._scheduler.holds(work.request) for work in pending.works):
            works = self._scheduler.schedule()
            if not works:
                return []
            pending = self._runner.submit(works)
        pending = self._runner.choose(pending)
        following = self._submit_after(pending)
        events = self._collect(pending)
        self._pending = following  # not before: a step that fails must be repeated, not skipped
        if not self.has_work:
            self._pending = None
            self._check_when_idle()
        return events

    def fail_all(self, error: str) -> list[TokenEvent]:
        """End every request with finish_reason "error" and one line; all blocks are free afterwards."""
        self._pending = None
        ended = self._scheduler.requests
        for request in ended:
            self._scheduler.remove(request.request_id)
        return [TokenEvent(r.request_id, (), "error", n_prompt=r.n_prompt, error=error) for r in ended]

    def check_integrity(self) -> None:
        """AssertionError unless every KV block and every state is free or held by exactly one request."""
        self._scheduler.check_integrity()

    def stats(self) -> EngineStats:
        """A snapshot; the engine's thread takes it."""
        scheduler = self._scheduler
        return EngineStats(
            n_waiting=len(scheduler.waiting),
            n_running=len(scheduler.running),
            n_blocks=scheduler.pool.n_blocks,
            n_free_blocks=scheduler.pool.n_free,
            n_slots=scheduler.slots.n_slots,
            n_free_slots=scheduler.slots.n_free,
        )

    def _submit_after(self, pending: PendingStep) -> PendingStep | None:
        """The next step, where nothing of it depends on what `pending` chooses but tokens that are on the device."""
        if not self._looks_ahead or pending.chosen is None:
            return None
        works = self._scheduler.schedule_ahead(pending.works)
        return self._runner.submit_after(pending, works) if works else None

    def _collect(self, pending: PendingStep) -> list[TokenEvent]:
        """Events of a step. Requests that have ended or were aborted since it was submitted have none."""
        results = self._runner.collect(pending)
        events = [self._take_in(result) for result in results if self._scheduler.holds(result.work.request)]
        return [event for event in events if event is not None]

    def _take_in(self, result: StepResult) -> TokenEvent | None:
        """What a step gave for one request: new tokens, its end, or a piece of its prompt."""
        work, request = result.work, result.work.request
        token_ids, reason, stop_token = self._until_end(request, result.token_ids)
        error = result.error if reason is None else None
        request.accept(work.n_tokens, token_ids)
        if request.guide is not None and error is None:
            reason, error = self._guided(request, request.guide, token_ids, reason)
        request.n_read = max(request.n_read, min(request.n_computed, request.n_prompt))
        has_news = token_ids or result.prompt_logprobs or result.hidden is not None or request.reads.progress
        if reason is None and error is None and not has_news:
            return None
        if reason is not None or error is not None:
            self._scheduler.remove(request.request_id)
        elif work.drafts:
            self._scheduler.give_back_surplus(request)
        return TokenEvent(
            request.request_id,
            tuple(token_ids),
            reason if error is None else "error",
            stop_token=stop_token,
            n_prompt=request.n_prompt,
            n_read=request.n_read,
            error=error,
            logprobs=tuple(result.logprobs[: len(token_ids)]),
            prompt_logprobs=tuple(result.prompt_logprobs),
            hidden=result.hidden,
        )

    def _until_end(
        self, request: Request, token_ids: Sequence[int]
    ) -> tuple[Sequence[int], FinishReason | None, int | None]:
        """The chosen tokens that belong to the answer, why it ends with them, and the token that ended it."""
        if token_ids and request.max_new_tokens == 0:
            return (), "length", None
        params = request.params
        for i, token_id in enumerate(token_ids):
            ends = token_id in self._eos_ids and not params.ignore_eos
            if ends or token_id in params.stop_token_ids:
                return token_ids[:i], "stop", token_id
            if request.n_output + i + 1 == request.max_new_tokens:
                return token_ids[: i + 1], "length", None
        return token_ids, None, None

    def _guided(
        self, request: Request, guide: Guide, token_ids: Sequence[int], reason: FinishReason | None
    ) -> tuple[FinishReason | None, str | None]:
        """Why the answer ends when its guide has seen the tokens, and the error of a guide that fails."""
        try:
            for token_id in token_ids:
                guide.accept(token_id)
            return ("stop" if token_ids and guide.is_finished else reason), None
        except Exception as error:
            return None, failure_of(error)

    def _check_when_idle(self) -> None:
        """A leaked block is logged, not raised: the answers were right and the next request can run."""
        try:
            self.check_integrity()
        except AssertionError as error:
            logger.error("KV integrity check failed while idle: %s", error)


def _check_config(config: EngineConfig, ctx_size: int, n_ctx_max: int) -> None:
    """Raises EspalierError for numbers that cannot work."""
    for name in ("max_batch", "kv_block_size", "step_tokens"):
        if getattr(config, name) < 1:
            raise EspalierError(f"{name} must be at least 1, not {getattr(config, name)}")
    if config.max_queue < 0:
        raise EspalierError(f"max_queue must not be negative, it is {config.max_queue}")
    if not 2 <= ctx_size <= n_ctx_max:
        raise EspalierError(
            f"--ctx-size {ctx_size} does not fit the model: at least 2, at most the {n_ctx_max} tokens "
            f"of its training or its sliding window"
        )
