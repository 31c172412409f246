"""POST /v1/completions."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from server.errors import ApiError
from server.schemas.field_table import FIELDS
from server.schemas.fields import COMPLETIONS, Values, read_body
from server.schemas.generation import GenerationRequest, check_choices, generation_fields
from server.schemas.values import integer_of

MAX_PROMPTS = 128
DEFAULT_MAX_TOKENS = 16  # OpenAI's
_KNOWN = FIELDS.of_route(COMPLETIONS)


@dataclass(frozen=True)
class CompletionRequest(GenerationRequest):
    """prompts: a text or token ids each. parse_special: texts may spell control tokens.

    best_of: answers made for each prompt, of which the `n` likeliest are told.
    """

    prompts: list[str | list[int]]
    parse_special: bool
    best_of: int
    echo: bool
    suffix: str | None


def completion_request(body: Mapping[str, Any]) -> CompletionRequest:
    """Raises ApiError 400 naming the field."""
    values = read_body(body, _KNOWN)
    prompts = _prompts(values.first("prompt"))
    fields = generation_fields(
        values, default_max_tokens=DEFAULT_MAX_TOKENS, logprobs=values.first("logprobs")
    )
    best_of = _best_of(values, fields["n"], fields["stream"])
    check_choices(len(prompts), best_of, "n" if best_of == fields["n"] else "best_of")
    echo, suffix = values.first("echo", False), values.first("suffix")
    if echo and suffix is not None:
        raise ApiError(400, "echo and suffix exclude each other", param="echo")
    return CompletionRequest(
        **fields,
        prompts=prompts,
        parse_special=values.first("parse_special", True),
        best_of=best_of,
        echo=echo,
        suffix=suffix,
    )


def _best_of(values: Values, n: int, stream: bool) -> int:
    best_of: int = values.first("best_of", n)
    if best_of < n:
        raise ApiError(400, f"best_of {best_of} is less than n {n}", param="best_of")
    if best_of > n and stream:
        raise ApiError(
            400, "the best answers are known at their end: best_of does not stream", param="best_of"
        )
    return best_of


def _prompts(prompt: str | list[Any]) -> list[str | list[int]]:
    """Raises ApiError for anything but a text, token ids, or a list of one of these."""
    if isinstance(prompt, str):
        return [prompt]
    if _is_ids(prompt):
        return [_ids(prompt)]
    if not 1 <= len(prompt) <= MAX_PROMPTS:
        raise ApiError(400, f"prompt has {len(prompt)} entries; 1 to {MAX_PROMPTS} work", param="prompt")
    if all(isinstance(part, str) for part in prompt):
        return list(prompt)
    if all(isinstance(part, list) and _is_ids(part) for part in prompt):
        return [_ids(part) for part in prompt]
    raise ApiError(400, "prompt must be a text, token ids, or a list of one of these", param="prompt")


def _is_ids(value: list[Any]) -> bool:
    return bool(value) and all(type(token_id) in (int, float) for token_id in value)


def _ids(value: list[Any]) -> list[int]:
    """5.0 is the id 5, as in every field that holds integers."""
    return [token_id if type(token_id) is int else integer_of(token_id, "prompt") for token_id in value]
