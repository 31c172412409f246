"""A model whose next token is a hash of what it reads through its block table: a wrong block shows at once.

It runs the real engine, batch, runner and sampler in microseconds. Its KV cache is one int array of tokens; a
freed block keeps its old tokens, as a real cache would.
"""

import zlib
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np

from kernels.cache_groups import PagedGroup
from kernels.choice_row import Choices, Chosen, ChosenTokens, on_host
from kernels.recordings import Recordings
from kernels.reference import choice

N_VOCAB = 17
EOS_ID = 16


def next_token(token_ids: np.ndarray | list[int]) -> int:
    """The one token after this history."""
    return zlib.crc32(np.asarray(token_ids, np.int32).tobytes()) % N_VOCAB


def solo_answer(prompt_ids: list[int], max_tokens: int, ignore_eos: bool = False) -> tuple[list[int], str]:
    """What the engine must answer, worked out without it: the tokens and the finish reason."""
    history = list(prompt_ids)
    while len(history) - len(prompt_ids) < max_tokens:
        token_id = next_token(history)
        if token_id == EOS_ID and not ignore_eos:
            return history[len(prompt_ids) :], "stop"
        history.append(token_id)
    return history[len(prompt_ids) :], "length"


class FakeOps:
    """The ops the engine itself calls."""

    name = "fake"
    runs_asynchronously = False
    kv_types = ("f16",)

    def begin_step(self) -> None:
        pass

    def free_bytes(self) -> None:
        pass

    def padded_pass(self, n_seqs: int, n_columns: int) -> tuple[int, int]:
        return n_seqs, n_columns

    def reserve_outputs(self, n_rows: int, n_columns: int) -> None:
        pass

    def output_bytes(self, n_rows: int, n_columns: int) -> int:
        return 4 * n_rows * n_columns

    def recorded(
        self, recordings: Recordings, key: Hashable, compute: Callable[[], np.ndarray]
    ) -> np.ndarray:
        return compute()

    def index_array(self, values: np.ndarray) -> np.ndarray:
        return np.asarray(values, np.int32)

    def to_host(self, x: np.ndarray) -> np.ndarray:
        return x

    def choose(self, logits: np.ndarray, choices: Choices) -> Chosen:
        return choice.choose(logits, choices)

    def fetch_chosen(self, chosen: Chosen, n_rows: int) -> Callable[[], ChosenTokens]:
        return lambda: on_host(chosen, n_rows)

    def pass_on(self, chosen: Chosen, rows: np.ndarray, token_ids: np.ndarray) -> None:
        choice.pass_on(chosen, rows, token_ids)

    def new_cache(self, group: PagedGroup, n: int, block_size: int, kv_type: str = "f16") -> list[np.ndarray]:
        return [np.full(n * block_size, -1) for _ in range(group.n_layer)]


@dataclass
class FakeModel:
    """forward stores tokens in their slots and reads histories back; logits are 0 but for one 1."""

    block_size: int
    largest_step: int = 0  # tokens in the largest forward pass so far
    fail_next: bool = False
    poison: set[int] = field(default_factory=set)  # a history that starts with one of these gives NaN

    def cache_groups(self) -> tuple[PagedGroup, ...]:
        return (PagedGroup(1, 1, 1),)

    def forward(self, ops: Any, batch: Any, caches: list[list[np.ndarray]]) -> list[np.ndarray]:
        if self.fail_next:
            self.fail_next = False
            raise RuntimeError("the device is gone")
        cells, attention = caches[0][0], batch.attention
        self.largest_step = max(self.largest_step, batch.n_tokens)
        cells[batch.slots] = batch.token_ids
        sequence = np.searchsorted(attention.query_start, batch.hidden_rows, side="right") - 1
        histories = []
        for seq, row in zip(sequence, batch.hidden_rows, strict=True):
            positions = np.arange(batch.positions[row] + 1)
            blocks = attention.block_table[seq, positions // self.block_size]
            histories.append(cells[blocks * self.block_size + positions % self.block_size])
        return histories

    def logits(self, ops: Any, hidden: list[np.ndarray]) -> np.ndarray:
        logits = np.zeros((len(hidden), N_VOCAB), np.float32)
        for row, history in zip(logits, hidden, strict=True):
            row[next_token(history)] = 1
            if int(history[0]) in self.poison:
                row[3] = np.nan
        return logits


def fake_loaded(model: FakeModel, n_ctx_max: int, ops: FakeOps | None = None) -> Any:
    """What `load_model` would give for it."""
    return SimpleNamespace(
        name="fake",
        config=SimpleNamespace(n_vocab=N_VOCAB, n_ctx_max=n_ctx_max),
        model=model,
        ops=ops or FakeOps(),
        tokenizer=SimpleNamespace(eos_ids=frozenset({EOS_ID})),
        chat_template=None,
    )
