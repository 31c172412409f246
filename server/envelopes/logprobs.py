"""Log-probabilities as OpenAI's two dialects and vLLM write them."""

import math
from collections.abc import Sequence
from typing import Any

from engine import TokenLogprobs
from engine.text.tokenizer import Tokenizer
from server.generations.pieces import TokenText
from server.generations.prompts import Prompt

LEAST = -9999.0  # OpenAI's, for what JSON cannot write


def chat_logprobs(
    tokenizer: Tokenizer, tokens: Sequence[TokenText], n_top: int, *, ids_as_tokens: bool = False
) -> dict[str, Any]:
    """choices[].logprobs of a chat."""
    return {
        "content": [_chat_entry(tokenizer, token, n_top, ids_as_tokens) for token in tokens],
        "refusal": None,
    }


def _chat_entry(tokenizer: Tokenizer, token: TokenText, n_top: int, ids: bool) -> dict[str, Any]:
    top = token.logprobs.top[:n_top] if token.logprobs is not None else ()
    logprob = token.logprobs.logprob if token.logprobs is not None else LEAST
    return {
        "id": token.token_id,
        **_told(token.token_id, token.data, logprob, ids),
        "top_logprobs": [
            {"id": token_id, **_told(token_id, shown_bytes(tokenizer, token_id), value, ids)}
            for token_id, value in top
        ],
    }


def _told(token_id: int, data: bytes, logprob: float, ids: bool) -> dict[str, Any]:
    text = f"token_id:{token_id}" if ids else data.decode("utf-8", "replace")
    return {"token": text, "logprob": finite(logprob), "bytes": list(data)}


def completion_logprobs(
    tokenizer: Tokenizer, tokens: Sequence[TokenText], n_top: int, *, ids_as_tokens: bool = False
) -> dict[str, Any]:
    """choices[].logprobs of a text completion. The first token of an echoed prompt has none."""

    def name(token_id: int, data: bytes) -> str:
        return f"token_id:{token_id}" if ids_as_tokens else data.decode("utf-8", "replace")

    def top_of(token: TokenText) -> dict[str, float] | None:
        """Of two tokens with one text the likelier one's; the token itself is always among them."""
        if token.logprobs is None:
            return None
        top: dict[str, float] = {}
        for token_id, value in token.logprobs.top[:n_top]:
            top.setdefault(name(token_id, shown_bytes(tokenizer, token_id)), finite(value))
        top.setdefault(name(token.token_id, token.data), finite(token.logprobs.logprob))
        return top

    return {
        "tokens": [name(token.token_id, token.data) for token in tokens],
        "token_logprobs": [
            None if token.logprobs is None else finite(token.logprobs.logprob) for token in tokens
        ],
        "top_logprobs": [top_of(token) for token in tokens],
        "text_offset": [token.offset for token in tokens],
    }


def prompt_logprobs(
    tokenizer: Tokenizer, prompt: Prompt, logprobs: Sequence[TokenLogprobs]
) -> list[dict[str, Any] | None]:
    """vLLM's: for each token of the prompt its own and the likeliest ones', by id; null for the first."""
    told: list[dict[str, Any] | None] = [None]
    for token_id, each in zip(prompt.token_ids[1:], logprobs, strict=True):
        ranks = {top_id: rank for rank, (top_id, _) in enumerate(each.top, 1)}
        values = {token_id: each.logprob, **dict(each.top)}
        told.append(
            {
                str(one): {
                    "logprob": finite(value),
                    "rank": ranks.get(one),
                    "decoded_token": shown_bytes(tokenizer, one).decode("utf-8", "replace"),
                }
                for one, value in values.items()
            }
        )
    return told


def shown_bytes(tokenizer: Tokenizer, token_id: int) -> bytes:
    """Of a token that nobody chose: a control token as the vocabulary spells it."""
    return tokenizer.token_bytes(token_id) or tokenizer.piece(token_id).encode()


def finite(logprob: float) -> float:
    return logprob if math.isfinite(logprob) else LEAST
