"""Conversations as batches of token ids, each token with what its loss counts."""

import random
from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np

from engine.text.chat_template import ChatTemplate
from engine.text.tokenizer import Tokenizer, load_tokenizer
from tools.demo.corpus import Message, Split, conversations

PADDING, ASKED, SAID = range(3)  # what a token is part of
MISREAD = 0.05  # of the question's tokens are read as another one, so that no single word decides
#: An answer is known by heart once its first tokens are right, so most conversations end there and leave room for
#: more questions.
CUT_SHARE, CUT_TOKENS = 0.6, 12
SORTED_AT_ONCE = 1024  # conversations whose lengths are put together

Encoded = tuple[list[int], list[bool]]  # ids, and which of them the assistant said


class Encoder:
    """Conversations to ids by the engine's own tokenizer and template: what is trained is what is served."""

    def __init__(self, tokenizer: Tokenizer, template: ChatTemplate) -> None:
        self.tokenizer = tokenizer
        self._template = template
        self._assistant_id = tokenizer.control.ids["<|assistant|>"]
        (self._end_id,) = tokenizer.eos_ids

    @classmethod
    def from_metadata(cls, metadata: dict[str, Any]) -> "Encoder":
        tokenizer = load_tokenizer(metadata)
        return cls(tokenizer, ChatTemplate.from_metadata(metadata, tokenizer))

    def encode(self, messages: list[Message]) -> Encoded:
        """Token ids with BOS in front, and which of them the assistant said, its end included."""
        ids = self._template.encode(messages, add_generation_prompt=False)
        said, speaking = [], False
        for token_id in ids:
            said.append(speaking)
            speaking = (speaking and token_id != self._end_id) or token_id == self._assistant_id
        return ids, said

    def batches(self, seed: int, split: Split, n_tokens: int) -> Iterator[np.ndarray]:
        """Endless. int64 [3, n_seqs, longest]: what is read, what comes next, and of what that is a part.

        A batch holds conversations of about the same length, each from its BOS on, n_tokens with the padding.
        """
        rng = random.Random(seed)
        drawn = conversations(seed, split)
        while True:
            encoded = [self._cut(*self.encode(messages), rng) for messages in islice(drawn, SORTED_AT_ONCE)]
            batches = list(_grouped(sorted(encoded, key=lambda each: len(each[0])), n_tokens))
            rng.shuffle(batches)
            for batch in batches:
                yield self._padded(batch, rng)

    def _cut(self, ids: list[int], said: list[bool], rng: random.Random) -> Encoded:
        """The conversation, or most often its last answer's first tokens only."""
        if rng.random() >= CUT_SHARE:
            return ids, said
        last_answer = len(ids) - 1 - ids[::-1].index(self._assistant_id)
        end = last_answer + 1 + CUT_TOKENS
        return ids[:end], said[:end]

    def _padded(self, batch: list[Encoded], rng: random.Random) -> np.ndarray:
        longest = len(batch[-1][0]) - 1
        out = np.zeros((3, len(batch), longest), np.int64)
        for row, (ids, said) in enumerate(batch):
            n = len(ids) - 1
            out[0, row, :n] = [self._misread(i, s, rng) for i, s in zip(ids[:n], said, strict=False)]
            out[1, row, :n] = ids[1:]
            out[2, row, :n] = np.where(said[1:], SAID, ASKED)
        return out

    def _misread(self, token_id: int, said: bool, rng: random.Random) -> int:
        if said or self.tokenizer.is_control(token_id) or rng.random() >= MISREAD:
            return token_id
        return rng.randrange(self.tokenizer.n_vocab)


def _grouped(encoded: list[Encoded], n_tokens: int) -> Iterator[list[Encoded]]:
    """Neighbours of a sorted list, as many as fit into n_tokens when padded to the longest."""
    group: list[Encoded] = []
    for each in encoded:
        if group and (len(group) + 1) * len(each[0]) > n_tokens:
            yield group
            group = []
        group.append(each)
    yield group
