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

from kernels.cache_groups import CacheGroup, PagedGroup, StateGroup
from kernels.choice_row import Choices, Chosen, ChosenTokens, on_host
from kernels.recordings import Recordings
from kernels.reference import choice

N_VOCAB = 17
EOS_ID = 16
STATE = StateGroup(n_layer=1, n_channels=1, n_taps=2, n_head=1, key_dim=1, value_dim=1)


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

    def hold(self, result: np.ndarray) -> np.ndarray:
        return result

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

    def new_cache(self, group: CacheGroup, n: int, block_size: int, kv_type: str = "f16") -> list[np.ndarray]:
        """A cell for each token of a block, or one for each state."""
        n_cells = n if isinstance(group, StateGroup) else n * block_size
        return [np.full(n_cells, -1) for _ in range(group.n_layer)]


@dataclass
class FakeModel:
    """forward stores tokens in their slots and reads histories back; logits are 0 but for one 1.

    keeps_state: it also takes a checksum of each sequence's tokens on, in the sequence's state slot, and asserts that
    it is that of the history.
    """

    block_size: int
    keeps_state: bool = False
    largest_step: int = 0  # tokens in the largest forward pass so far
    fail_next: bool = False
    poison: set[int] = field(default_factory=set)  # a history that starts with one of these gives NaN

    def cache_groups(self) -> tuple[CacheGroup, ...]:
        return (PagedGroup(1, 1, 1), *([STATE] if self.keeps_state else []))

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
        if self.keeps_state:
            checksums = self._taken_on(batch, caches[1][0])
            for row, history in zip(batch.hidden_rows, histories, strict=True):
                expected = zlib.crc32(history.astype(np.int32).tobytes())
                assert checksums[row] == expected, "a state of other tokens"
        return histories

    def _taken_on(self, batch: Any, states: np.ndarray) -> np.ndarray:
        """The checksum after each token of the pass, [n_tokens]."""
        checksums = np.zeros(batch.n_tokens, np.int64)
        query_start, context_lens, slots = batch.state
        for i, slot in enumerate(slots):
            first, end = query_start[i], query_start[i + 1]
            checksum = 0 if context_lens[i] == end - first else int(states[slot])
            for at in range(first, end):
                token = batch.token_ids[at : at + 1].astype(np.int32)
                checksum = checksums[at] = zlib.crc32(token.tobytes(), checksum)
            states[slot] = checksum
        return checksums

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
        n_weights=0,
        file_bytes=0,
        config=SimpleNamespace(
            architecture="fake",
            n_vocab=N_VOCAB,
            n_ctx_train=n_ctx_max,
            n_ctx_max=n_ctx_max,
            n_embd=1,
            pooling=None,
        ),
        model=model,
        ops=ops or FakeOps(),
        tokenizer=SimpleNamespace(eos_ids=frozenset({EOS_ID})),
        chat_template=None,
    )
