"""The engine: add requests, call step() until there is no work, read the events. Synchronous, one thread.

It wires the parts and decides what ends a request. Who runs is the scheduler's business, what the tokens are
the model's and the sampler's. Text, stop strings and clients live on the other side of the door.
"""

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from engine.block_pool import BlockPool
from engine.choice_rows import TokenIds
from engine.choosing import Sampled
from engine.errors import ContextLengthError, EspalierError, RequestError
from engine.kv_cache import KVCache, KVShape, new_kv_cache
from engine.request import Request
from engine.runner import Flight, Runner
from engine.sampling import resolve_seed, validate
from engine.scheduler import ScheduledChunk, Scheduler
from engine.types import EngineConfig, EngineStats, FinishReason, SamplingParams, TokenEvent, TokenLogprobs

if TYPE_CHECKING:
    from engine.loading import LoadedModel

logger = logging.getLogger("espalier.engine")


class Engine:
    """Owns the KV cache of one loaded model and every unfinished request.

    One thread calls add, abort, step, fail_all, check_integrity and stats; `validate` and the attributes are
    anyone's. Raises ResourceError where the KV cache does not fit, EspalierError for an impossible config.
    """

    def __init__(self, loaded: "LoadedModel", config: EngineConfig) -> None:
        model = loaded.config
        self.config = config
        self.name = loaded.name
        self.tokenizer = loaded.tokenizer
        self.chat_template = loaded.chat_template
        self.n_vocab: int = model.n_vocab
        self.ctx_size: int = model.n_ctx_max if config.ctx_size is None else config.ctx_size
        _check_config(config, self.ctx_size, model.n_ctx_max)
        self._eos_ids: frozenset[int] = loaded.tokenizer.eos_ids if loaded.tokenizer else frozenset()
        shape = KVShape(model.n_layer, model.n_head_kv, model.head_dim, config.kv_type)
        self.kv: KVCache = new_kv_cache(loaded.ops, shape, config, self.ctx_size, self.n_vocab)
        self._runner = Runner(loaded.model, loaded.ops, self.kv, TokenIds(self.n_vocab, self._eos_ids))
        self._looks_ahead = loaded.ops.runs_asynchronously
        self._flight: Flight | None = None  # launched ahead of its turn
        self._scheduler = Scheduler(
            BlockPool(self.kv.n_blocks, self.kv.block_size),
            max_batch=config.max_batch,
            step_tokens=config.step_tokens,
            max_queue=config.max_queue,
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

    def add(self, request_id: str, prompt_ids: Sequence[int], params: SamplingParams) -> None:
        """Queue a request. Raises as `validate`, QueueFullError, and ValueError for an id in use."""
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
            )
        )

    def abort(self, request_id: str) -> None:
        """Forget it, in whatever phase: its blocks are free, no event follows. Unknown id: nothing."""
        self._scheduler.remove(request_id)

    def step(self) -> list[TokenEvent]:
        """The events of one forward pass, if there is work: the requests that have a new token or have ended.

        Where the backend runs asynchronously, the pass after it is launched before its tokens are read, so that a GPU
        never waits.
        An exception is our bug and leaves every request where it was: call `fail_all`, then go on or end.
        """
        flight, self._flight = self._flight, None
        if flight is None or not any(self._scheduler.holds(chunk.request) for chunk in flight.chunks):
            chunks = self._scheduler.schedule()
            if not chunks:
                return []
            flight = self._runner.launch(chunks)
        following = self._launch_after(flight)
        events = self._land(flight)
        self._flight = following  # not before: a step that fails must be repeated, not skipped
        if not self.has_work:
            self._flight = None
            self._check_when_idle()
        return events

    def fail_all(self, error: str) -> list[TokenEvent]:
        """End every request with finish_reason "error" and one line; all blocks are free afterwards."""
        self._flight = None
        return [self._finish(request, "error", error=error) for request in self._scheduler.requests]

    def check_integrity(self) -> None:
        """AssertionError unless every KV block is free or held by exactly one request."""
        self._scheduler.check_integrity()

    def stats(self) -> EngineStats:
        """A snapshot; the engine's thread takes it."""
        scheduler = self._scheduler
        return EngineStats(
            n_waiting=len(scheduler.waiting),
            n_running=len(scheduler.running),
            n_blocks=scheduler.pool.n_blocks,
            n_free_blocks=scheduler.pool.n_free,
        )

    def _launch_after(self, flight: Flight) -> Flight | None:
        """The next step, where nothing of it depends on what `flight` chooses but tokens that are on the device."""
        tokens = self._scheduler.schedule_ahead(flight.chunks) if self._looks_ahead and flight.output else []
        return self._runner.launch_after(flight, tokens) if tokens else None

    def _land(self, flight: Flight) -> list[TokenEvent]:
        """Events of a step. Requests that have ended or were aborted since its launch have none."""
        outcomes = zip(flight.chunks, self._runner.read(flight), strict=True)
        held = ((chunk, sampled) for chunk, sampled in outcomes if self._scheduler.holds(chunk.request))
        settled = (self._settle(chunk, sampled) for chunk, sampled in held)
        return [event for event in settled if event is not None]

    def _settle(self, chunk: ScheduledChunk, sampled: Sampled | None) -> TokenEvent | None:
        """Take in what a step computed for one request: its new token, its end, or a piece of its prompt."""
        request = chunk.request
        request.n_computed += chunk.n_tokens
        if sampled is None:
            return None
        if sampled.error is not None:
            return self._finish(request, "error", error=sampled.error)
        if request.max_new_tokens == 0:
            return self._finish(request, "length")
        token_id = sampled.token_id
        if token_id in self._eos_ids and not request.params.ignore_eos:
            return self._finish(request, "stop")
        request.token_ids.append(token_id)
        logprobs = () if sampled.logprobs is None else (sampled.logprobs,)
        if request.n_output == request.max_new_tokens:
            return self._finish(request, "length", (token_id,), logprobs)
        return TokenEvent(request.request_id, (token_id,), n_prompt=request.n_prompt, logprobs=logprobs)

    def _finish(
        self,
        request: Request,
        reason: FinishReason,
        token_ids: tuple[int, ...] = (),
        logprobs: tuple[TokenLogprobs, ...] = (),
        error: str | None = None,
    ) -> TokenEvent:
        self._scheduler.remove(request.request_id)
        n_prompt = request.n_prompt
        return TokenEvent(
            request.request_id, token_ids, reason, n_prompt=n_prompt, error=error, logprobs=logprobs
        )

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
