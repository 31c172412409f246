"""A chat's request in the words of the engine: its prompt, what restricts the answer, how that is read and told."""

from dataclasses import dataclass

from starlette.requests import Request

from engine.constraints import Constraint
from server.envelopes.chat import ChatShape
from server.generations.choice import Ask
from server.generations.prompts import Prompt
from server.guiding import bad_words, form, guides_of
from server.prompt_limits import encoding_limit, truncated
from server.reading import Reading, reading_of
from server.schemas.chat import ChatRequest
from server.service import Service


@dataclass(frozen=True)
class ChatPlan:
    prompt: Prompt
    ask: Ask
    shape: ChatShape


async def plan(service: Service, request: Request, asked: ChatRequest) -> ChatPlan:
    """Raises RequestError and ApiError for what cannot be done."""
    constraint = await service.compiled(request, asked.constraint)
    ctx_size = service.engine.ctx_size
    whole = await rendered(service, request, asked, encoding_limit(asked.truncation, ctx_size))
    prompt = truncated(whole, asked.truncation, ctx_size, asked.params.max_tokens)
    continued = _last_text(asked) if asked.continues_last else None
    reading = reading_of(service.answer_format, (), whole.text or "", continued)
    return ChatPlan(prompt, _ask(service, asked, reading, constraint), _shape(asked))


async def rendered(service: Service, request: Request, asked: ChatRequest, limit: int) -> Prompt:
    """The whole prompt. Raises ContextLengthError where it has `limit` tokens."""
    return await service.encode_chat(
        request,
        asked.messages,
        asked.template_variables,
        add_generation_prompt=asked.add_generation_prompt,
        continues_last=asked.continues_last,
        limit=limit,
    )


def _ask(service: Service, asked: ChatRequest, reading: Reading | None, constraint: Constraint | None) -> Ask:
    return Ask(
        params=asked.params,
        stops=(*asked.stops, *service.chat_template.stops),
        n=asked.n,
        best_of=asked.n,
        keeps_stop=asked.keeps_stop,
        wants_tokens=asked.logprobs is not None or asked.token_ids,
        prompt_logprobs=asked.prompt_logprobs,
        tells_prompt_logprobs=asked.prompt_logprobs is not None,
        progress=asked.progress,
        reader=None if reading is None else reading.make,
        guide=guides_of([bad_words(service.tokenizer, asked.bad_words), form(service.tokenizer, constraint)]),
        shown=() if reading is None else reading.shown,
    )


def _shape(asked: ChatRequest) -> ChatShape:
    return ChatShape(
        include_usage=asked.include_usage,
        continuous_usage=asked.continuous_usage,
        logprobs=asked.logprobs,
        token_ids=asked.token_ids,
        timings=asked.timings,
        ids_as_tokens=asked.ids_as_tokens,
        prefix=_last_text(asked) if asked.echo else "",
    )


def _last_text(asked: ChatRequest) -> str:
    """Of the message that the answer continues. The chat template has found its form good."""
    content = asked.messages[-1]["content"]
    return content if isinstance(content, str) else "".join(part["text"] for part in content)
