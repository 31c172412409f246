"""What sampling parameters may be. What they mean: kernels/reference/choice.py."""

import math
import secrets
import sys
from collections.abc import Mapping

from engine.errors import RequestError
from engine.types import SamplingParams
from kernels.choice_row import MAX_LOGPROBS, STEPS

MAX_LOGIT_BIAS = 1024  # entries
MAX_STOP_TOKENS = 128
MAX_INT = 2**31 - 1
MAX_FLOAT = sys.float_info.max

#: Field -> lowest, highest.
FLOAT_RANGES: dict[str, tuple[float, float]] = {
    "temperature": (0.0, MAX_FLOAT),
    "top_p": (0.0, 1.0),  # 0: the likeliest token alone
    "min_p": (0.0, 1.0),
    "repetition_penalty": (1e-3, 10.0),  # logits are divided by it, and must stay numbers
    "frequency_penalty": (-2.0, 2.0),
    "presence_penalty": (-2.0, 2.0),
}


def validate(params: SamplingParams, n_vocab: int) -> None:
    """Raises RequestError naming the first field that is out of its range."""
    for name, (lowest, highest) in FLOAT_RANGES.items():
        value = getattr(params, name)
        if not _is_number(value) or not lowest <= value <= highest:
            raise RequestError(f"{name} must be a number {_range(lowest, highest)}", param=name)
    _check_int("top_k", params.top_k, -1, MAX_INT)
    if params.max_tokens is not None:
        _check_int("max_tokens", params.max_tokens, 0, MAX_INT)
    if params.seed is not None:
        _check_int("seed", params.seed, -(2**63), 2**64 - 1)
    _check_logit_bias(params.logit_bias, n_vocab)
    _check_int("min_tokens", params.min_tokens, 0, MAX_INT)
    if params.max_tokens is not None and params.min_tokens > params.max_tokens:
        raise RequestError("min_tokens is more than max_tokens", param="min_tokens")
    if params.logprobs is not None:
        _check_int("logprobs", params.logprobs, 0, MAX_LOGPROBS)
    _check_allowed(params.allowed_token_ids, n_vocab)
    _check_stop_tokens(params.stop_token_ids, n_vocab)
    if sorted(params.sampler_order) != sorted(STEPS):
        raise RequestError(f"sampler_order must have each of {', '.join(STEPS)} once", param="sampler_order")


def _range(lowest: float, highest: float) -> str:
    if highest == MAX_FLOAT:
        return f"{lowest:g} or more"
    return f"between {lowest:g} and {highest:g}"


def resolve_seed(seed: int | None) -> int:
    """The Philox key: a signed seed modulo 2^64; without one, fresh random bits."""
    return secrets.randbits(64) if seed is None else seed % 2**64


def _check_logit_bias(logit_bias: Mapping[int, float], n_vocab: int) -> None:
    if len(logit_bias) > MAX_LOGIT_BIAS:
        raise RequestError(f"logit_bias has more than {MAX_LOGIT_BIAS} entries", param="logit_bias")
    for token_id, bias in logit_bias.items():
        if not _is_int(token_id) or not 0 <= token_id < n_vocab:
            raise RequestError(f"logit_bias names a token id outside 0 to {n_vocab - 1}", param="logit_bias")
        if not _is_number(bias) or not -100 <= bias <= 100:
            raise RequestError("logit_bias values must be numbers between -100 and 100", param="logit_bias")


def _check_allowed(token_ids: frozenset[int] | None, n_vocab: int) -> None:
    if token_ids is None:
        return
    if not token_ids or not all(_is_int(t) and 0 <= t < n_vocab for t in token_ids):
        raise RequestError(
            f"allowed_token_ids must be token ids from 0 to {n_vocab - 1}, at least one",
            param="allowed_token_ids",
        )


def _check_stop_tokens(token_ids: frozenset[int], n_vocab: int) -> None:
    if len(token_ids) > MAX_STOP_TOKENS or not all(_is_int(t) and 0 <= t < n_vocab for t in token_ids):
        raise RequestError(
            f"stop_token_ids must be token ids from 0 to {n_vocab - 1}, at most {MAX_STOP_TOKENS}",
            param="stop_token_ids",
        )


def _check_int(name: str, value: object, lowest: int, highest: int) -> None:
    if not _is_int(value) or not lowest <= value <= highest:  # type: ignore[operator]
        raise RequestError(f"{name} must be an integer between {lowest} and {highest}", param=name)


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    """A finite int or float."""
    return _is_int(value) or (isinstance(value, float) and math.isfinite(value))
