"""A served model that says what a script tells it, where its guides allow that: everything but the logits is real.

Small models cannot choose a tool by themselves. This one does: the likeliest token is the next one of the scripted
answer, and where a mask forbids it the likeliest of the others.
"""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

from engine import Engine, EngineConfig
from engine.text.chat_template import ChatTemplate
from engine.text.tokenizer import Tokenizer, load_tokenizer
from kernels.cache_groups import CacheGroup, PagedGroup
from support.fake_model import FakeOps
from support.vocabularies import CONTROL, USER_DEFINED, bpe_metadata

#: The whole prompt -> what the model answers.
Script = Callable[[str], str]
BLOCK_SIZE = 32
N_CTX = 8192
N_EMBD = 8
START, END = "<|im_start|>", "<|im_end|>"
# The turns of ChatML, and tools as Qwen's models have them.
TEMPLATE = r"""
{%- if tools -%}
{{ '<|im_start|>system\n' }}
{%- for tool in tools %}{{ tool | tojson ~ '\n' }}{% endfor -%}
{{ '<|im_end|>\n' }}
{%- endif -%}
{%- for message in messages -%}
{{ '<|im_start|>' ~ message.role ~ '\n' }}
{%- if message.content %}{{ message.content }}{% endif -%}
{%- for call in message.tool_calls or [] -%}
{{ '<tool_call>\n{"name": "' ~ call.function.name ~ '", "arguments": ' ~ call.function.arguments | tojson }}
{{- '}\n</tool_call>' }}
{%- endfor -%}
{{ '<|im_end|>\n' }}
{%- endfor -%}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif -%}
"""


class ScriptedOps(FakeOps):
    """What a reader of prompts calls too."""

    def take_rows(self, x: list[list[int]], rows: np.ndarray) -> list[list[int]]:
        return [x[row] for row in rows]


class ScriptedModel:
    """The engine's Model. Its cache holds the tokens themselves."""

    def __init__(self, tokenizer: Tokenizer, script: Script) -> None:
        self._tokenizer, self._script = tokenizer, script
        self._header = tokenizer.encode(f"{START}assistant\n", add_special=False, parse_special=True)
        self._answers: dict[tuple[int, ...], list[int]] = {}  # by prompt

    def cache_groups(self) -> tuple[CacheGroup, ...]:
        return (PagedGroup(1, 1, 1),)

    def forward(self, ops: Any, batch: Any, caches: list[list[np.ndarray]]) -> list[list[int]]:
        cells, attention = caches[0][0], batch.attention
        cells[batch.slots] = batch.token_ids
        sequences = np.searchsorted(attention.query_start, batch.hidden_rows, side="right") - 1
        histories = []
        for sequence, row in zip(sequences, batch.hidden_rows, strict=True):
            positions = np.arange(batch.positions[row] + 1)
            blocks = attention.block_table[sequence, positions // BLOCK_SIZE]
            histories.append([int(t) for t in cells[blocks * BLOCK_SIZE + positions % BLOCK_SIZE]])
        return histories

    def logits(self, ops: Any, hidden: list[list[int]]) -> np.ndarray:
        logits = np.zeros((len(hidden), self._tokenizer.n_vocab), np.float32)
        for row, history in zip(logits, hidden, strict=True):
            row[self._next(history)] = 20.0
        return logits

    def _next(self, history: list[int]) -> int:
        n_prompt = self._end_of_prompt(history)
        prompt = tuple(history[:n_prompt])
        if prompt not in self._answers:
            text = b"".join(map(self._bytes_of, prompt)).decode("utf-8", "replace")
            answer = self._tokenizer.encode(self._script(text), add_special=False, parse_special=True)
            [end_id] = self._tokenizer.encode(END, add_special=False, parse_special=True)
            self._answers[prompt] = [*answer, end_id]
        said, answer = history[n_prompt:], self._answers[prompt]
        return answer[len(said)] if said == answer[: len(said)] and len(said) < len(answer) else answer[-1]

    def _bytes_of(self, token_id: int) -> bytes:
        return self._tokenizer.token_bytes(token_id) or self._tokenizer.piece(token_id).encode()

    def _end_of_prompt(self, history: list[int]) -> int:
        """After the last beginning of an assistant's turn; all of it for a prompt without turns."""
        n = len(self._header)
        for end in range(len(history), n - 1, -1):
            if history[end - n : end] == self._header:
                return end
        return len(history)


def scripted_engine(script: Script, **config: Any) -> Engine:
    tags = ["<tool_call>", "</tool_call>", "<think>", "</think>"]
    more = [*((tag, USER_DEFINED) for tag in tags), (START, CONTROL), (END, CONTROL)]
    tokenizer = load_tokenizer(bpe_metadata(more=more))
    model = ScriptedModel(tokenizer, script)
    facts = SimpleNamespace(
        architecture="scripted",
        n_vocab=tokenizer.n_vocab,
        n_ctx_train=N_CTX,
        n_ctx_max=N_CTX,
        n_embd=N_EMBD,
        pooling=None,
    )
    loaded: Any = SimpleNamespace(
        name="scripted",
        n_weights=0,
        file_bytes=0,
        config=facts,
        model=model,
        ops=ScriptedOps(),
        tokenizer=tokenizer,
        chat_template=ChatTemplate(TEMPLATE, tokenizer),
    )
    fields = {"kv_block_size": BLOCK_SIZE, "max_batch": 8, "kv_memory_bytes": 4 * 8 * N_CTX}
    return Engine(loaded, EngineConfig(**{**fields, **config}))
