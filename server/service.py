"""What the completion routes share: the model's name, prompts to ids, an answer to them."""

import hashlib
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any, TypeVar

from fastapi.responses import JSONResponse
from starlette.requests import Request
from starlette.responses import Response

from engine import ContextLengthError
from engine.answers.formats import format_of
from engine.constraints import Compiler, Constraint, ConstraintSpec
from engine.pooling import POOLINGS, Pooling
from engine.text.messages import texts_of
from server.disconnects import unless_disconnected
from server.engine_thread import EngineThread
from server.envelopes.envelope import Envelope
from server.errors import ApiError, engine_failed, overloaded
from server.generations.choice import Ask
from server.generations.generation import Generation
from server.generations.prompts import Prompt
from server.settings import Settings
from server.sse import EventStream
from server.text_pool import LONG_TEXT, TextPool

Encoded = TypeVar("Encoded")


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
        self.answer_format = format_of(
            self.chat_template.source,
            tool_parser=settings.tool_parser,
            reasoning_parser=settings.reasoning_parser,
        )
        self.text_pool = TextPool()
        self._compiler = Compiler(self.tokenizer, self.tokenizer.eos_ids)
        self.models = settings.aliases or (self.engine.name,)  # ids of the one model
        self.model_id = self.models[0]
        self.pooling = pooling_of(settings.pooling, self.engine.facts.pooling)
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
            if given in self.models:
                return given
            for model in self.models:
                if given.endswith(f"/{model}"):
                    return model
        if self.settings.accept_any_model:
            return self.model_id
        raise ApiError(
            404,
            f"there is no model of that name here; this server has {', '.join(self.models)}",
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

    async def encode_text(
        self,
        request: Request,
        text: str,
        *,
        parse_special: bool = True,
        add_special: bool = True,
        limit: int | None = None,
    ) -> Prompt:
        """A raw prompt. parse_special: control tokens spelled in it are those tokens. limit: see `_apart`."""
        limit = self.engine.ctx_size if limit is None else limit

        def encode(cancelled: threading.Event) -> Prompt:
            token_ids = self.tokenizer.encode(
                text,
                add_special=add_special,
                parse_special=parse_special,
                limit=limit,
                cancelled=cancelled,
            )
            return Prompt(token_ids, text)

        return await self._apart(request, (text,), encode, limit)

    async def encode_chat(
        self,
        request: Request,
        messages: Sequence[dict[str, Any]],
        variables: Mapping[str, Any],
        *,
        add_generation_prompt: bool = True,
        continues_last: bool = False,
        limit: int | None = None,
    ) -> Prompt:
        """variables: what the request sets of the template's own. limit: see `_apart`."""
        limit = self.engine.ctx_size if limit is None else limit

        def encode(cancelled: threading.Event) -> Prompt:
            prompt = self.chat_template.prompt(
                messages,
                add_generation_prompt=add_generation_prompt,
                continues_last=continues_last,
                extra=variables,
                limit=limit,
                cancelled=cancelled,
            )
            return Prompt(prompt.token_ids, prompt.text)

        try:
            return await self._apart(request, list(texts_of(messages)), encode, limit)
        except ContextLengthError as error:
            error.param = "messages"
            raise

    async def compiled(self, request: Request, spec: ConstraintSpec | None) -> Constraint | None:
        """The form of a request's answers. Raises RequestError naming the part that no answer can be guided by."""
        if spec is None:
            return None
        return await unless_disconnected(
            request, lambda: self.text_pool.run_form(lambda gone: self._compiler.compile(spec, gone))
        )

    async def _apart(
        self,
        request: Request,
        texts: Sequence[str],
        encode: Callable[[threading.Event], Encoded],
        limit: int,
    ) -> Encoded:
        """encode's result, worked out in the pool, unless the client leaves or the texts cannot have fewer tokens
        than `limit`: ContextLengthError then."""
        size = sum(map(len, texts))
        least = self.tokenizer.least_tokens(size)
        if least >= limit:
            raise ContextLengthError(least, limit, at_least=True)
        if size <= LONG_TEXT:
            return await self.text_pool.run(size, encode)
        return await unless_disconnected(request, lambda: self.text_pool.run(size, encode))

    async def answer(
        self,
        request: Request,
        prompts: Sequence[Prompt],
        ask: Ask,
        envelope: Envelope,
        *,
        stream: bool,
    ) -> Response:
        """The generation of a client request, in the words of its dialect, as a whole or as it comes."""
        seconds = self.settings.request_seconds
        generation = Generation(self.thread, self.tokenizer, prompts, ask, seconds=seconds)
        await generation.begin()
        try:
            if stream:
                return EventStream(generation, envelope, ping_seconds=self.settings.ping_seconds)
            answers = await unless_disconnected(request, generation.answers)
        except BaseException:
            generation.close()
            raise
        generation.close()
        return JSONResponse(envelope.whole(answers, generation))


def pooling_of(chosen: str, of_file: Pooling | None) -> Pooling:
    """The operator's, or the file's, or the last token's, which has seen all others."""
    return next((pooling for pooling in POOLINGS if pooling == chosen), of_file or "last")


def package_version() -> str:
    try:
        return version("espalier")
    except PackageNotFoundError:  # run from a checkout that is not installed
        return "0"
