"""A chat's request in the words of the engine: its prompt, what restricts the answer, how that is read and told."""

from dataclasses import dataclass

from starlette.requests import Request

from engine.constraints import Constraint
from server.envelopes.chat import ChatShape
from server.generations.choice import Ask
from server.generations.prompts import Prompt
from server.guiding import after_thoughts, bad_words, form, guides_of
from server.prompt_limits import encoding_limit, truncated
from server.reading import NO_THOUGHTS, ThoughtsOf, reading_of
from server.schemas.chat import ChatRequest
from server.service import Service
from server.tool_calls import compiled_calls, told_messages


@dataclass(frozen=True)
class ChatPlan:
    prompt: Prompt
    ask: Ask
    shape: ChatShape


async def plan(service: Service, request: Request, asked: ChatRequest) -> ChatPlan:
    """Raises RequestError and ApiError for what cannot be done."""
    constraint = await compiled_calls(service, request, asked.tool_use, asked.constraint)
    ctx_size = service.engine.ctx_size
    whole = await rendered(service, request, asked, encoding_limit(asked.truncation, ctx_size))
    prompt = truncated(whole, asked.truncation, ctx_size, asked.params.max_tokens)
    thoughts = ThoughtsOf.prompt(service.answer_format.thoughts, whole.text or "", _continued(asked))
    return ChatPlan(prompt, _ask(service, asked, thoughts, constraint), _shape(asked))


async def rendered(service: Service, request: Request, asked: ChatRequest, limit: int) -> Prompt:
    """The whole prompt. Raises ContextLengthError where it has `limit` tokens."""
    messages, tools = told_messages(service, asked.messages, asked.tool_use)
    return await service.encode_chat(
        request,
        messages,
        {**(service.settings.chat_template_kwargs or {}), **asked.thinking.variables, **tools},
        add_generation_prompt=asked.add_generation_prompt,
        continues_last=asked.continues_last,
        limit=limit,
    )


def _ask(service: Service, asked: ChatRequest, thoughts: ThoughtsOf, constraint: Constraint | None) -> Ask:
    told = thoughts if asked.thinking.told != "inline" else NO_THOUGHTS
    reading = reading_of(told, service.answer_format.calls, asked.tool_use.tools)
    shaped = form(service.tokenizer, constraint)
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
        guide=guides_of(
            [
                bad_words(service.tokenizer, asked.bad_words),
                after_thoughts(service.tokenizer, thoughts, asked.thinking.budget, shaped),
            ]
        ),
        shown=() if reading is None else reading.shown,
    )


def _continued(asked: ChatRequest) -> str | None:
    return _last_text(asked) if asked.continues_last else None


def _shape(asked: ChatRequest) -> ChatShape:
    return ChatShape(
        include_usage=asked.include_usage,
        continuous_usage=asked.continuous_usage,
        logprobs=asked.logprobs,
        token_ids=asked.token_ids,
        timings=asked.timings,
        ids_as_tokens=asked.ids_as_tokens,
        hides_thoughts=asked.thinking.told == "hidden",
        is_legacy=asked.tool_use.is_legacy,
        is_named=asked.tool_use.named is not None,
        prefix=_last_text(asked) if asked.echo else "",
    )


def _last_text(asked: ChatRequest) -> str:
    """Of the message that the answer continues. The chat template has found its form good."""
    content = asked.messages[-1]["content"]
    return content if isinstance(content, str) else "".join(part["text"] for part in content)
