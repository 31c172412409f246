"""Answers that a guide leaves, drawn without a model: every allowed token is as likely as the next."""

import random
from collections.abc import Sequence

import numpy as np

from engine.guides.guide import Guide
from engine.text.stream import TextStream
from engine.text.tokenizer import Tokenizer


def allowed_ids(guide: Guide, n_vocab: int) -> list[int]:
    words = np.full(-(-n_vocab // 32), -1, np.int32)
    if not guide.fill_mask(words):
        return list(range(n_vocab))
    bits = np.unpackbits(words.view(np.uint8), bitorder="little")[:n_vocab]
    return [int(token_id) for token_id in np.flatnonzero(bits)]


def drawn_text(
    guide: Guide,
    tokenizer: Tokenizer,
    draw: random.Random,
    *,
    hides_space: bool = False,
    limit: int = 2000,
    shown: Sequence[str] = (),
) -> str | None:
    """What a client reads; None for an answer that has not ended after `limit` tokens.

    An end is taken as soon as it is allowed in half of the cases, so that most answers are short.
    """
    stream = TextStream(tokenizer, skip_leading_space=hides_space, shown=shown)
    text = ""
    for _ in range(limit):
        ids = allowed_ids(guide, tokenizer.n_vocab)
        ends = [token_id for token_id in ids if token_id in tokenizer.eos_ids]
        if ends and (len(ends) == len(ids) or draw.random() < 0.5):
            return text + stream.flush().text
        token_id = draw.choice([token_id for token_id in ids if token_id not in tokenizer.eos_ids])
        guide.accept(token_id)
        text += stream.push([token_id]).text
        if guide.is_finished:
            return text + stream.flush().text
    return None
