"""A text completion's request in the words of the engine: prompts, and what is wanted of them."""

from dataclasses import dataclass, replace

from starlette.requests import Request

from engine.constraints import Constraint
from engine.text.fill_middle import FillMiddle
from server.envelopes.openai import Shape
from server.errors import ApiError
from server.generations.choice import Ask
from server.generations.prompts import Prompt
from server.guiding import bad_words, form, guides_of
from server.prompt_limits import encoding_limit, truncated
from server.schemas.completions import CompletionRequest
from server.service import Service


@dataclass(frozen=True)
class CompletionPlan:
    prompts: list[Prompt]
    ask: Ask
    shape: Shape


async def plan(service: Service, request: Request, asked: CompletionRequest) -> CompletionPlan:
    """Raises RequestError and ApiError for what cannot be done."""
    constraint = await service.compiled(request, asked.constraint)
    prompts = [await _prompt(service, request, asked, prompt) for prompt in asked.prompts]
    return CompletionPlan(prompts, _ask(service, asked, constraint), _shape(asked))


async def _prompt(
    service: Service, request: Request, asked: CompletionRequest, prompt: str | list[int]
) -> Prompt:
    if asked.suffix is not None:
        return await _with_suffix(service, request, asked, prompt, asked.suffix)
    encoded = await _encoded(service, request, asked, prompt)
    return truncated(encoded, asked.truncation, service.engine.ctx_size, asked.params.max_tokens)


async def _encoded(
    service: Service,
    request: Request,
    asked: CompletionRequest,
    prompt: str | list[int],
    *,
    add_special: bool = True,
) -> Prompt:
    if not isinstance(prompt, str):
        return Prompt(prompt)
    limit = encoding_limit(asked.truncation, service.engine.ctx_size)
    return await service.encode_text(
        request, prompt, parse_special=asked.parse_special, add_special=add_special, limit=limit
    )


async def _with_suffix(
    service: Service, request: Request, asked: CompletionRequest, prompt: str | list[int], suffix: str
) -> Prompt:
    """The answer is what lies between prompt and suffix."""
    tokens: FillMiddle | None = service.tokenizer.fill_middle
    if tokens is None:
        text = "suffix needs a model with tokens to fill in a middle, and this one has none"
        raise ApiError(400, text, param="suffix", code="unsupported_value")
    before = await _encoded(service, request, asked, prompt, add_special=False)
    after = await _encoded(service, request, asked, suffix, add_special=False)
    bos_id = service.tokenizer.bos_id
    bos = [bos_id] if service.tokenizer.add_bos and bos_id is not None else []
    return Prompt([*bos, *tokens.prompt(before.token_ids, after.token_ids)])


def _ask(service: Service, asked: CompletionRequest, constraint: Constraint | None) -> Ask:
    params = asked.params
    if asked.best_of > asked.n and params.logprobs is None:
        params = replace(params, logprobs=0)  # the likeliest answers are known by them
    echoed = asked.logprobs if asked.echo else None
    wanted = [n_top for n_top in (echoed, asked.prompt_logprobs) if n_top is not None]
    return Ask(
        params=params,
        stops=asked.stops,
        n=asked.n,
        best_of=asked.best_of,
        keeps_stop=asked.keeps_stop,
        echo=asked.echo,
        wants_tokens=asked.logprobs is not None or asked.token_ids,
        prompt_logprobs=max(wanted, default=None),
        tells_prompt_logprobs=asked.prompt_logprobs is not None,
        progress=asked.progress,
        guide=guides_of([bad_words(service.tokenizer, asked.bad_words), form(service.tokenizer, constraint)]),
    )


def _shape(asked: CompletionRequest) -> Shape:
    return Shape(
        include_usage=asked.include_usage,
        continuous_usage=asked.continuous_usage,
        logprobs=asked.logprobs,
        token_ids=asked.token_ids,
        timings=asked.timings,
        ids_as_tokens=asked.ids_as_tokens,
    )
