"""Texts to embeddings: prompts without an answer, whose hidden states are pooled as they come."""

import asyncio
import uuid
from collections.abc import Sequence

from starlette.requests import Request

from engine import EspalierError, PromptReads, RequestError, SamplingParams, TokenEvent
from engine.pooling import Embedding, Pool, Pooling
from server.disconnects import unless_disconnected
from server.engine_thread import EngineThread, EventQueue
from server.errors import ApiError
from server.schemas.embeddings import MAX_INPUT_TOKENS, EmbeddingRequest, Input, too_many_tokens
from server.service import Service

_NO_ANSWER = SamplingParams(max_tokens=0)
_HIDDEN = PromptReads(hidden=True)


async def pools_of(service: Service, request: Request, asked: EmbeddingRequest) -> tuple[list[Pool], int]:
    """A full pool for each input, and the tokens of all. Raises RequestError and ApiError."""
    if asked.dimensions is not None and asked.dimensions > service.engine.facts.n_embd:
        width = service.engine.facts.n_embd
        raise ApiError(400, f"dimensions must be at most {width}, the model's width", param="dimensions")
    prompts = await _prompts(service, request, asked)
    batch = Batch(service.thread, prompts, asked.pooling or service.pooling)
    try:
        async with asyncio.timeout(service.settings.request_seconds):
            pools = await unless_disconnected(request, batch.run)
    except TimeoutError:
        raise ApiError(504, "the request took longer than this server allows", code="timeout") from None
    return pools, sum(map(len, prompts))


def vector_of(pool: Pool, asked: EmbeddingRequest) -> Embedding:
    """Raises ApiError where the model's numbers are not finite."""
    try:
        return pool.vector(asked.dimensions, normalize=asked.normalize)
    except EspalierError as error:
        raise ApiError(500, str(error)) from None


async def _prompts(service: Service, request: Request, asked: EmbeddingRequest) -> list[Sequence[int]]:
    """The token ids of each input, of which the engine has found all good."""
    prompts: list[Sequence[int]] = []
    n_tokens = 0
    try:
        for entry in asked.inputs:
            token_ids = await _encoded(service, request, asked, entry)
            n_tokens += len(token_ids)
            if n_tokens > MAX_INPUT_TOKENS:
                raise too_many_tokens()
            service.engine.validate(token_ids, _NO_ANSWER)
            prompts.append(token_ids)
    except RequestError as error:
        error.param = "input"
        raise
    return prompts


async def _encoded(
    service: Service, request: Request, asked: EmbeddingRequest, entry: Input
) -> Sequence[int]:
    """Only a text at the front gets what the model adds to texts."""
    token_ids: list[int] = []
    for i, part in enumerate([entry] if isinstance(entry, str) else entry):
        if isinstance(part, int):
            token_ids.append(part)
        else:
            adds = asked.add_special and i == 0
            prompt = await service.encode_text(request, part, add_special=adds, parse_special=False)
            token_ids += prompt.token_ids
    return token_ids


class Batch:
    """The prompts of one client request. As many are in the engine at once as it runs: more would only keep others
    from its queue."""

    def __init__(self, thread: EngineThread, prompts: Sequence[Sequence[int]], pooling: Pooling) -> None:
        self._thread = thread
        self._prompts = prompts
        self._pools = [Pool(pooling) for _ in prompts]
        self._events = EventQueue()
        self._open: dict[str, int] = {}  # request id -> index of its prompt

    async def run(self) -> list[Pool]:
        """Every pool, full. Raises RequestError where the engine's queue has no place, ApiError where it fails."""
        n_begun = 0
        try:
            while self._open or n_begun < len(self._prompts):
                while n_begun < len(self._prompts) and len(self._open) < self._thread.engine.max_running:
                    await self._begin(n_begun)
                    n_begun += 1
                for event in await self._events.take():
                    self._take(event)
        finally:
            for request_id in self._open:
                self._thread.abort(request_id)
        return self._pools

    async def _begin(self, index: int) -> None:
        request_id = uuid.uuid4().hex
        self._open[request_id] = index
        await self._thread.submit(request_id, self._prompts[index], _NO_ANSWER, self._events, reads=_HIDDEN)

    def _take(self, event: TokenEvent) -> None:
        if event.hidden is not None:
            self._pools[self._open[event.request_id]].push(event.hidden)
        if event.finish_reason == "error":
            raise ApiError(500, event.error or "the request failed")
        if event.finish_reason is not None:
            del self._open[event.request_id]
            self._thread.abort(event.request_id)
