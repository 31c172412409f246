"""Conversations as windows of token ids, with a weight for each token's loss."""

import random
from collections.abc import Iterator
from typing import Any

import numpy as np

from engine.text.chat_template import ChatTemplate
from engine.text.tokenizer import load_tokenizer
from tools.demo.corpus import Message, Split, conversations

ANSWER_WEIGHT, QUESTION_WEIGHT = 1.0, 0.15  # of a token's loss: the model is judged by its answers
MISREAD = 0.04  # of the question's tokens are read as another one, so that no single word decides


class Encoder:
    """Conversations to ids by the engine's own tokenizer and template: what is trained is what is served."""

    def __init__(self, metadata: dict[str, Any]) -> None:
        self.tokenizer = load_tokenizer(metadata)
        self._template = ChatTemplate.from_metadata(metadata, self.tokenizer)
        assert self.tokenizer.bos_id is not None
        self._bos_id: int = self.tokenizer.bos_id
        self._assistant_id = self.tokenizer.control.ids["<|assistant|>"]
        (self._end_id,) = self.tokenizer.eos_ids

    def encode(self, messages: list[Message]) -> tuple[list[int], list[bool]]:
        """Token ids with BOS in front, and which of them the assistant said, its end included."""
        ids = self._template.encode(messages, add_generation_prompt=False)
        said, speaking = [], False
        for token_id in ids:
            said.append(speaking)
            speaking = (speaking and token_id != self._end_id) or token_id == self._assistant_id
        return ids, said

    def batches(self, seed: int, split: Split, n_seqs: int, n_tokens: int) -> Iterator[np.ndarray]:
        """Endless. int64 [3, n_seqs, n_tokens]: what is read, what comes next, and whether an answer has it."""
        rng = random.Random(seed)
        drawn = conversations(seed, split)
        ids: list[int] = []
        said: list[bool] = []
        need = n_seqs * n_tokens + 1
        while True:
            while len(ids) < need:
                more_ids, more_said = self.encode(next(drawn))
                ids += more_ids
                said += more_said
            read = [self._misread(i, s, rng) for i, s in zip(ids[: need - 1], said, strict=False)]
            batch = np.array([read, ids[1:need], said[1:need]], np.int64)
            yield batch.reshape(3, n_seqs, n_tokens)
            del ids[: need - 1], said[: need - 1]

    def _misread(self, token_id: int, said: bool, rng: random.Random) -> int:
        if said or self.tokenizer.is_control(token_id) or rng.random() >= MISREAD:
            return token_id
        return rng.randrange(self.tokenizer.n_vocab)
