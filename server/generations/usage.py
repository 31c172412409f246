"""What a request has cost so far: tokens and times."""

from dataclasses import dataclass
from typing import NamedTuple


class Usage(NamedTuple):
    """Tokens of all choices together."""

    n_prompt: int = 0
    n_cached: int = 0
    n_completion: int = 0
    n_reasoning: int = 0

    def as_dict(self) -> dict[str, object]:
        return {
            "prompt_tokens": self.n_prompt,
            "completion_tokens": self.n_completion,
            "total_tokens": self.n_prompt + self.n_completion,
            "prompt_tokens_details": {"cached_tokens": self.n_cached},
            "completion_tokens_details": {"reasoning_tokens": self.n_reasoning},
        }


@dataclass
class Clock:
    """When a request's events came, in seconds of the event loop's clock."""

    started: float
    first: float | None = None  # the first token
    last: float | None = None

    def tick(self, now: float) -> None:
        self.first = now if self.first is None else self.first
        self.last = now

    def ms_since_start(self, now: float) -> float:
        return round(1000 * (now - self.started), 3)

    def timings(self, usage: Usage) -> dict[str, float | int]:
        """llama.cpp's object. The time of the prompt has the wait for a place in it."""
        first, last = self.first or self.started, self.last or self.started
        n_prompt, n_predicted = usage.n_prompt - usage.n_cached, usage.n_completion
        return {
            "cache_n": usage.n_cached,
            **_rates("prompt", n_prompt, first - self.started),
            **_rates("predicted", n_predicted, last - first),
        }


def _rates(name: str, n_tokens: int, seconds: float) -> dict[str, float | int]:
    ms = 1000 * seconds
    return {
        f"{name}_n": n_tokens,
        f"{name}_ms": round(ms, 3),
        f"{name}_per_token_ms": round(ms / n_tokens, 3) if n_tokens else 0.0,
        f"{name}_per_second": round(n_tokens / seconds, 3) if seconds > 0 else 0.0,
    }
