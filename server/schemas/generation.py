"""What a request of either route asks for, read from its body by the table of fields."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from engine import SamplingParams
from engine.constraints import ConstraintSpec
from server.errors import ApiError
from server.schemas.constraints import constraint_of
from server.schemas.fields import Values
from server.schemas.values import MAX_CHOICES, MAX_COUNT, MAX_STOPS

#: Fields of the table that are fields of SamplingParams, under the same name.
SAMPLING = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "repetition_penalty",
    "frequency_penalty",
    "presence_penalty",
    "logit_bias",
    "seed",
    "ignore_eos",
    "min_tokens",
    "allowed_token_ids",
    "stop_token_ids",
)
_STREAM_OPTIONS = ("include_usage", "continuous_usage_stats", "include_obfuscation")


@dataclass(frozen=True)
class Truncation:
    """n_kept tokens of a prompt are kept; -1: as many as the context holds."""

    n_kept: int
    side: Literal["left", "right"]


@dataclass(frozen=True)
class GenerationRequest:
    """The part that both routes share. `params` holds the limit of the answer; ranges are the engine's to check.

    logprobs: of each token of the answer, and of so many likely ones; None: none. prompt_logprobs: likewise.
    """

    model: str | None
    stream: bool
    include_usage: bool
    continuous_usage: bool
    stops: tuple[str, ...]
    keeps_stop: bool
    bad_words: tuple[str, ...]
    constraint: ConstraintSpec | None
    params: SamplingParams
    n: int
    logprobs: int | None
    prompt_logprobs: int | None
    token_ids: bool
    ids_as_tokens: bool
    truncation: Truncation | None
    timings: bool
    progress: bool


def generation_fields(
    values: Values, *, default_max_tokens: int | None, logprobs: int | None
) -> dict[str, Any]:
    """The arguments of GenerationRequest. Raises ApiError 400 for fields that do not go together."""
    stream = values.first("stream", False)
    options = _stream_options(values.first("stream_options", {}), stream)
    return {
        "model": values.first("model"),
        "stream": stream,
        "include_usage": options["include_usage"],
        "continuous_usage": options["continuous_usage_stats"],
        "stops": _stops(values),
        "keeps_stop": values.first("include_stop_str_in_output", False),
        "bad_words": tuple(values.first("bad_words", ())),
        "constraint": constraint_of(values),
        "params": _params(values, default_max_tokens, logprobs),
        "n": values.first("n", 1),
        "logprobs": logprobs,
        "prompt_logprobs": _prompt_logprobs(values, stream),
        "token_ids": values.first("return_token_ids", False),
        "ids_as_tokens": values.first("return_tokens_as_token_ids", False),
        "truncation": _truncation(values),
        "timings": values.first("timings_per_token", False),
        "progress": stream and values.first("return_progress", False),
    }


def check_choices(n_prompts: int, n_each: int, name: str) -> None:
    """Raises ApiError for more choices than one request may have."""
    if n_prompts * n_each > MAX_CHOICES:
        raise ApiError(
            400, f"{n_prompts} prompts times {name} {n_each} are more than {MAX_CHOICES} answers", param=name
        )


def _params(values: Values, default_max_tokens: int | None, logprobs: int | None) -> SamplingParams:
    given = {name: values.first(name) for name in SAMPLING}
    max_tokens = _limit(values, default_max_tokens)
    if values.first("ban_eos_token"):
        given["min_tokens"] = MAX_COUNT if max_tokens is None else max_tokens
    return SamplingParams(
        max_tokens=max_tokens,
        logprobs=logprobs,
        **{name: value for name, value in given.items() if value is not None},
    )


def _limit(values: Values, default: int | None) -> int | None:
    """-1 is the whole context on either route; a field that asks for nothing is the route's default."""
    limit = values.first("max_tokens", default)
    return None if limit == -1 else limit


def _prompt_logprobs(values: Values, stream: bool) -> int | None:
    n_top: int | None = values.first("prompt_logprobs")
    if n_top is not None and stream:
        raise ApiError(
            400, "prompt_logprobs are told in a whole answer: leave out stream", param="prompt_logprobs"
        )
    return n_top


def _truncation(values: Values) -> Truncation | None:
    n_kept = values.first("truncate")
    return None if n_kept is None else Truncation(n_kept, values.first("truncation_side", "left"))


def _stops(values: Values) -> tuple[str, ...]:
    """The strings of all stop fields, each once."""
    stops = tuple(dict.fromkeys(stop for stops in values.all("stop") for stop in stops))
    if len(stops) > MAX_STOPS:
        raise ApiError(
            400, f"the stop fields have {len(stops)} strings; at most {MAX_STOPS} are taken", param="stop"
        )
    return stops


def _stream_options(options: Mapping[str, Any], stream: bool) -> dict[str, bool]:
    """Each option as a boolean. One that asks for something is of no use without a stream."""
    given = {name: options.get(name) for name in _STREAM_OPTIONS}
    for name, value in given.items():
        if not isinstance(value, bool | None):
            param = f"stream_options.{name}"
            raise ApiError(400, f"{param} must be true or false", param=param)
    asked = given["include_usage"] or given["continuous_usage_stats"]
    if asked and not stream:
        raise ApiError(400, "stream_options needs stream: true", param="stream_options")
    return {name: bool(value) for name, value in given.items()}
