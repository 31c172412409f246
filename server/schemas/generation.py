"""What a request of either route asks for, read from its body by the table of fields."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from engine import SamplingParams
from server.errors import ApiError
from server.schemas.fields import Values
from server.schemas.values import MAX_COUNT, MAX_STOPS

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
)
_STREAM_OPTIONS = ("include_usage", "continuous_usage_stats", "include_obfuscation")


@dataclass(frozen=True)
class GenerationRequest:
    """The part that both routes share. `params` holds the limit of the answer; ranges are the engine's to check."""

    model: str | None
    stream: bool
    include_usage: bool
    continuous_usage: bool
    stops: tuple[str, ...]
    params: SamplingParams


def generation_fields(values: Values, *, default_max_tokens: int | None) -> dict[str, Any]:
    """The arguments of GenerationRequest. Raises ApiError 400 for fields that do not go together."""
    stream = values.first("stream", False)
    options = _stream_options(values.first("stream_options", {}), stream)
    given = {name: values.first(name) for name in SAMPLING}
    max_tokens = _limit(values, default_max_tokens)
    if values.first("ban_eos_token"):
        given["min_tokens"] = MAX_COUNT if max_tokens is None else max_tokens
    params = SamplingParams(
        max_tokens=max_tokens,
        **{name: value for name, value in given.items() if value is not None},
    )
    return {
        "model": values.first("model"),
        "stream": stream,
        "include_usage": options["include_usage"],
        "continuous_usage": options["continuous_usage_stats"],
        "stops": _stops(values),
        "params": params,
    }


def _limit(values: Values, default: int | None) -> int | None:
    """-1 is the whole context on either route; a field that asks for nothing is the route's default."""
    limit = values.first("max_tokens", default)
    return None if limit == -1 else limit


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
