"""How many tokens of a prompt are kept, for clients that would rather have it cut than refused."""

from server.generations.prompts import Prompt
from server.schemas.generation import Truncation

MAX_CUT_TOKENS = 1 << 22  # of a prompt before it is cut


def encoding_limit(truncation: Truncation | None, ctx_size: int) -> int:
    """The tokens at which encoding a prompt gives up."""
    return ctx_size if truncation is None else MAX_CUT_TOKENS


def truncated(prompt: Prompt, truncation: Truncation | None, ctx_size: int, max_tokens: int | None) -> Prompt:
    """A prompt that has been cut is its tokens alone. -1 leaves the answer its max_tokens, or one token."""
    if truncation is None:
        return prompt
    n_kept = truncation.n_kept
    if n_kept < 0:
        n_kept = max(ctx_size - max(max_tokens or 1, 1), 1)
    if len(prompt.token_ids) <= n_kept:
        return prompt
    kept = prompt.token_ids[-n_kept:] if truncation.side == "left" else prompt.token_ids[:n_kept]
    return Prompt(kept)
