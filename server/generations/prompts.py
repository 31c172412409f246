"""A prompt, and how an answer that begins with it shows it."""

from collections.abc import Sequence
from itertools import zip_longest
from typing import NamedTuple

from engine import TokenLogprobs
from engine.text.detokenizer import Detokenizer
from engine.text.tokenizer import Tokenizer
from server.generations.pieces import TokenText


class Prompt(NamedTuple):
    """text: as the client or the template wrote it; None for a prompt of token ids."""

    token_ids: Sequence[int]
    text: str | None = None

    def hides_space(self, tokenizer: Tokenizer) -> bool:
        """Whether the space that a token may put in front of the answer is not shown to the client."""
        return bool(self.token_ids) and tokenizer.adds_space_after(self.token_ids[-1])


def shown_prompt(tokenizer: Tokenizer, prompt: Prompt) -> str:
    """Control tokens among ids print nothing, as in an answer; a text shows what it spells."""
    return tokenizer.decode(prompt.token_ids) if prompt.text is None else prompt.text


def prompt_tokens(
    tokenizer: Tokenizer, prompt: Prompt, logprobs: Sequence[TokenLogprobs] = ()
) -> tuple[TokenText, ...]:
    """The prompt token by token; their texts joined are `shown_prompt`'s.

    logprobs: of the tokens from the second on, or none at all.
    """
    detokenizer = Detokenizer(tokenizer, skip_leading_space=tokenizer.add_space_prefix)
    is_bos_added = _is_bos_added(tokenizer, prompt)
    tokens: list[TokenText] = []
    offset = 0
    for (i, token_id), logprob in zip_longest(enumerate(prompt.token_ids), (None, *logprobs)):
        data, text = tokenizer.token_bytes(token_id), detokenizer.push((token_id,))
        if prompt.text is not None and tokenizer.is_control(token_id) and not (i == 0 and is_bos_added):
            text = tokenizer.piece(token_id)
            data = text.encode()
        elif offset == 0 and not text and data == b" ":  # the space that encoding put in front
            data = b""
        elif offset == 0 and data == b" " + text.encode():
            data = text.encode()
        tokens.append(TokenText(token_id, data, offset, logprob, is_prompt=True))
        offset += len(text)
    return tuple(tokens)


def _is_bos_added(tokenizer: Tokenizer, prompt: Prompt) -> bool:
    """The prompt's first token is a BOS that its text does not spell."""
    bos_id = tokenizer.bos_id
    if prompt.text is None or bos_id is None or prompt.token_ids[0] != bos_id:
        return False
    return not prompt.text.startswith(tokenizer.piece(bos_id))
