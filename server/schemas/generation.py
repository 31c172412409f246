"""What both completion routes share: sampling fields, the closed list without a local meaning, what is refused.

A field is honoured, accepted without a local meaning, refused with a 400 that names it, or unknown: then it is
dropped and counted.
"""

from typing import Annotated, Any

from prometheus_client import Counter
from pydantic import BaseModel, ConfigDict, Field

from engine import SamplingParams
from server.errors import ApiError

UNKNOWN_FIELDS = Counter("espalier_unknown_request_fields_total", "Request fields nobody knows, dropped")

Number = Annotated[float, Field(allow_inf_nan=False)]
MAX_STOPS = 16
MAX_STOP_CHARACTERS = 1000
MAX_COUNT = 1 << 31

#: Accepted: they change nothing that this server does.
NO_LOCAL_MEANING = frozenset(
    {"user", "metadata", "service_tier", "safety_identifier", "prompt_cache_key", "prompt_cache_options"}
    | {"prompt_cache_retention", "verbosity", "moderation"}
)


class GenerationFields(BaseModel):
    """null means the default everywhere, as OpenAI's clients send it. Ranges are the engine's to check."""

    model_config = ConfigDict(strict=True, extra="ignore")

    model: str | None = None
    stream: bool | None = None
    stream_options: dict[str, Any] | None = None
    max_tokens: int | None = Field(default=None, ge=1, le=MAX_COUNT)
    temperature: Number | None = None
    top_p: Number | None = None
    top_k: int | None = Field(default=None, ge=-1, le=MAX_COUNT)
    min_p: Number | None = None
    frequency_penalty: Number | None = None
    presence_penalty: Number | None = None
    repetition_penalty: Number | None = None
    repeat_penalty: Number | None = None
    logit_bias: dict[str, Number] | None = Field(default=None, max_length=1024)
    seed: int | None = Field(default=None, ge=-(1 << 63), lt=1 << 63)
    stop: str | list[str] | None = None
    ignore_eos: bool | None = None

    @property
    def stops(self) -> list[str]:
        """The stop strings, checked."""
        stops = [self.stop] if isinstance(self.stop, str) else self.stop or []
        if len(stops) > MAX_STOPS:
            raise ApiError(400, f"stop has {len(stops)} strings; at most {MAX_STOPS} are taken", param="stop")
        if any(not 0 < len(stop) <= MAX_STOP_CHARACTERS for stop in stops):
            raise ApiError(400, f"a stop string has 1 to {MAX_STOP_CHARACTERS} characters", param="stop")
        return stops

    @property
    def include_usage(self) -> bool:
        """stream_options.include_usage, checked."""
        options = self.stream_options
        if options is None:
            return False
        if not self.stream:
            raise ApiError(400, "stream_options needs stream: true", param="stream_options")
        for name, value in options.items():
            if name in ("include_usage", "include_obfuscation") and not isinstance(value, bool | None):
                raise ApiError(400, f"{name} must be true or false", param=f"stream_options.{name}")
        if options.get("continuous_usage_stats"):
            raise refused("stream_options.continuous_usage_stats")
        return bool(options.get("include_usage"))

    def sampling(self, max_tokens: int | None) -> SamplingParams:
        """The engine's parameters. Raises ApiError for a logit_bias key that is not a token id."""
        given: dict[str, Any] = {
            "temperature": self.temperature,
            "top_p": self.top_p,
            "top_k": self.top_k,
            "min_p": self.min_p,
            "frequency_penalty": self.frequency_penalty,
            "presence_penalty": self.presence_penalty,
            "repetition_penalty": self.repetition_penalty
            if self.repetition_penalty is not None
            else self.repeat_penalty,
            "seed": self.seed,
            "ignore_eos": self.ignore_eos,
        }
        return SamplingParams(
            max_tokens=max_tokens,
            logit_bias=_bias(self.logit_bias or {}),
            **{name: value for name, value in given.items() if value is not None},
        )


def refuse_later_fields(body: dict[str, Any], later: dict[str, tuple[Any, ...]]) -> None:
    """400 for a field that this build does not serve, unless its value asks for nothing.

    later: field -> the values, besides null, that ask for nothing.
    """
    for name, harmless in later.items():
        value = body.get(name)
        if value is not None and not any(value == plain and type(value) is type(plain) for plain in harmless):
            raise refused(name)


def refused(name: str) -> ApiError:
    return ApiError(400, f"{name} is not supported by this server yet", param=name, code="unsupported_value")


def count_unknown(body: dict[str, Any], schema: type[BaseModel], later: dict[str, tuple[Any, ...]]) -> None:
    unknown = body.keys() - schema.model_fields.keys() - later.keys() - NO_LOCAL_MEANING
    if unknown:
        UNKNOWN_FIELDS.inc(len(unknown))


def _bias(given: dict[str, float]) -> dict[int, float]:
    try:
        return {int(key): value for key, value in given.items()}
    except ValueError:
        raise ApiError(400, "logit_bias maps token ids to numbers", param="logit_bias") from None
