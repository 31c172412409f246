"""What the completion routes share: the model's name, prompts to ids, answers begun and collected."""

import asyncio
import hashlib
import threading
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any, TypeVar

from starlette.requests import Request

from engine import ContextLengthError, SamplingParams
from engine.text.messages import texts_of
from server.engine_thread import EngineThread, EventQueue
from server.errors import ApiError, engine_failed, overloaded
from server.generation import Answer, Piece, arrivals, close_all
from server.settings import Settings
from server.text_pool import LONG_TEXT, TextPool

Result = TypeVar("Result")


class Service:
    """One served model. `draining` is set by SIGTERM: what runs may finish, nothing new begins."""

    def __init__(self, thread: EngineThread, settings: Settings) -> None:
        self.thread = thread
        self.settings = settings
        self.engine = thread.engine
        assert self.engine.tokenizer is not None, "a served model has a vocabulary"
        assert self.engine.chat_template is not None, "a served model has a template, if only the default"
        self.tokenizer = self.engine.tokenizer
        self.chat_template = self.engine.chat_template
        self.text_pool = TextPool()
        self.model_id = settings.alias or self.engine.name
        self.created = int(time.time())
        self.draining = False
        self.fingerprint = f"espalier-{package_version()}-{self._hash()}"

    def _hash(self) -> str:
        engine, settings = self.engine, self.settings
        told = (
            f"{engine.name} {engine.n_vocab} {engine.ctx_size} {settings.kt_trellis} {settings.activations} "
            f"{self.chat_template.source}"
        )
        return hashlib.sha256(told.encode()).hexdigest()[:8]

    def require_ready(self) -> None:
        if self.thread.failure is not None:
            raise engine_failed()
        if self.draining:
            raise overloaded("the server is shutting down", retry_after_s=5, code="draining")

    def model_named(self, name: str | None) -> str:
        """The id to echo. Raises ApiError 404 for a model that is not served.

        Proxies put a provider's path before the name (openai/NAME), clients of Ollama a tag after it (NAME:latest).
        """
        untagged = (name or "").rpartition(":")[0]
        for given in (name or self.model_id, untagged):
            if given == self.model_id or given.endswith(f"/{self.model_id}"):
                return self.model_id
        if self.settings.accept_any_model:
            return self.model_id
        raise ApiError(
            404,
            f"there is no model of that name here; this server has {self.model_id}",
            param="model",
            code="model_not_found",
        )

    def base(self, kind: str, prefix: str, model: str) -> dict[str, Any]:
        """The fields that every object and chunk of an answer repeats."""
        return {
            "id": f"{prefix}-{uuid.uuid4().hex}",
            "object": kind,
            "created": int(time.time()),
            "model": model,
            "system_fingerprint": self.fingerprint,
        }

    async def encode_text(self, request: Request, text: str, *, parse_special: bool = True) -> list[int]:
        """A raw prompt's token ids. parse_special: control tokens spelled in it are those tokens."""

        def encode(cancelled: threading.Event) -> list[int]:
            return self.tokenizer.encode(
                text,
                add_special=True,
                parse_special=parse_special,
                limit=self.engine.ctx_size,
                cancelled=cancelled,
            )

        return await self._apart(request, (text,), encode)

    async def encode_chat(
        self, request: Request, messages: Sequence[dict[str, Any]], variables: Mapping[str, Any]
    ) -> list[int]:
        """variables: what the request sets of the template's own."""

        def encode(cancelled: threading.Event) -> list[int]:
            return self.chat_template.encode(
                messages, extra=variables, limit=self.engine.ctx_size, cancelled=cancelled
            )

        try:
            return await self._apart(request, list(texts_of(messages)), encode)
        except ContextLengthError as error:
            error.param = "messages"
            raise

    async def _apart(
        self, request: Request, texts: Sequence[str], encode: Callable[[threading.Event], list[int]]
    ) -> list[int]:
        """A prompt's ids, worked out in the pool, unless its texts cannot fit or the client leaves."""
        size = sum(map(len, texts))
        least = self.tokenizer.least_tokens(size)
        if least >= self.engine.ctx_size:
            raise ContextLengthError(least, self.engine.ctx_size, at_least=True)
        if size <= LONG_TEXT:
            return await self.text_pool.run(size, encode)
        return await unless_disconnected(request, lambda: self.text_pool.run(size, encode))

    async def begin(
        self, prompts: Sequence[Sequence[int]], params: SamplingParams, stops: Sequence[str]
    ) -> list[Answer]:
        """All prompts admitted, or none: what one of them raises ends the others."""
        answers: list[Answer] = []
        events = EventQueue()
        try:
            for prompt_ids in prompts:
                self.engine.validate(prompt_ids, params)
            for index, prompt_ids in enumerate(prompts):
                seconds = self.settings.request_seconds
                answer = await Answer.begin(
                    self.thread, prompt_ids, params, stops, events=events, index=index, seconds=seconds
                )
                answers.append(answer)
        except BaseException:
            close_all(answers)
            raise
        return answers


async def collect(request: Request, answers: Sequence[Answer]) -> list[tuple[str, str]]:
    """(text, finish_reason) of each choice, unless the client leaves first: then everything is aborted."""

    async def gather_pieces() -> list[tuple[str, str]]:
        pieces: list[list[Piece]] = [[] for _ in answers]
        async for arrived in arrivals(answers):
            for piece in arrived:
                pieces[piece.index].append(piece)
        return [("".join(p.text for p in own), own[-1].finish_reason or "stop") for own in pieces]

    try:
        return await unless_disconnected(request, gather_pieces)
    finally:
        close_all(answers)


async def unless_disconnected(request: Request, work: Callable[[], Awaitable[Result]]) -> Result:
    """The result of work(), which is cancelled when the client leaves. Starlette does this for streams only."""

    async def until_gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    working, gone = asyncio.ensure_future(work()), asyncio.ensure_future(until_gone())
    try:
        await asyncio.wait({working, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ApiError(499, "the client left before its answer was complete")
        return working.result()
    finally:
        for task in (working, gone):
            task.cancel()


def package_version() -> str:
    try:
        return version("espalier")
    except PackageNotFoundError:  # run from a checkout that is not installed
        return "0"
