"""Chunks through a model to logits: the one place that knows a decode pass may be padded and replayed."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from engine.batch import Batch, Chunk, build_batch, build_decode_batch, padding
from engine.choice_rows import RequestRows
from engine.models.model import Model
from kernels.batches import Array, LayerCache
from kernels.choice_row import Choices, Chosen
from kernels.ops import Ops
from kernels.recordings import Recordings

#: A pass in which every sequence brings so many tokens at most, and all want their rows, is recorded.
MAX_DECODE_TOKENS = 8


class Output(NamedTuple):
    """What a pass leaves on the backend, valid until the next one; a padded pass has rows beyond n_rows."""

    logits: Array  # [>= n_rows, n_vocab]
    chosen: Chosen | None  # at least n_rows rows; None where the caller asked for no choice
    n_rows: int  # those the chunks want
    n_padded: int  # those that logits has


class Predecessor(NamedTuple):
    """A pass whose tokens are on the backend only: row rows[i] of chosen has the token of the next pass's chunk i."""

    chosen: Chosen
    rows: Sequence[int]


class ForwardPass:
    """One model over one KV cache."""

    def __init__(
        self, model: Model, ops: Ops, caches: Sequence[Sequence[LayerCache]], block_size: int
    ) -> None:
        self._model = model
        self._ops = ops
        self._caches = caches
        self._block_size = block_size
        self._recordings = Recordings()

    def run(self, chunks: Sequence[Chunk]) -> np.ndarray | None:
        """Logits of the rows the chunks want, [n_rows, n_vocab], valid until the next run; None for no rows."""
        output = self.compute(chunks)
        return None if output is None else self._ops.to_host(output.logits)[: output.n_rows]

    def compute(
        self,
        chunks: Sequence[Chunk],
        asked: RequestRows | None = None,
        predecessor: Predecessor | None = None,
    ) -> Output | None:
        """The same, left where it was computed, and a token chosen for each of those rows where `asked` says how.

        With a predecessor every chunk is one token, whatever it says, and wants its row.
        """
        self._ops.begin_step()
        k = len(chunks[0].token_ids)
        if k <= MAX_DECODE_TOKENS and all(len(c.token_ids) == k == c.want_rows for c in chunks):
            return self._decode(chunks, k, asked, predecessor)
        assert predecessor is None, "only a decode step can follow one that nobody has read"
        batch = build_batch(chunks, self._block_size, self._ops)
        if batch.n_rows == 0:
            self._model.forward(self._ops, batch, self._caches)
            return None
        choices = asked.on(self._ops, batch.token_ids) if asked else None
        return Output(*self._logits(batch, choices), batch.n_rows, batch.n_rows)

    def compute_held(self, chunks: Sequence[Chunk], predecessor: Predecessor | None = None) -> Output | None:
        """Logits that `choose` reads when more is known; nothing takes their memory until then."""
        output = self.compute(chunks, predecessor=predecessor)
        return None if output is None else output._replace(logits=self._ops.hold(output.logits))

    def choose(self, output: Output, asked: RequestRows) -> Chosen:
        """A choice for the rows of a pass that was computed without one, in the same step. No row has n_unread."""
        ids = self._ops.index_array(np.zeros(output.n_padded, np.int32))
        return self._ops.choose(output.logits, asked.padded(output.n_padded).on(self._ops, ids))

    def hidden_rows(self, chunks: Sequence[Chunk]) -> Array:
        """The final normed hidden states of the rows the chunks want, [n_rows, n_embd]; at least one row.

        Valid until the next pass. `choose_from` takes it in parts, so that long prompts need no logits of all rows.
        """
        self._ops.begin_step()
        batch = build_batch(chunks, self._block_size, self._ops)
        return self._model.forward(self._ops, batch, self._caches)

    def choose_from(self, hidden: Array, rows: Sequence[int], asked: RequestRows) -> Chosen:
        """A choice for some rows of `hidden_rows`, in the same step; asked has one row for each."""
        ids = self._ops.index_array(np.zeros(len(rows), np.int32))  # no row has n_unread
        choices = asked.on(self._ops, ids)
        part = self._ops.take_rows(hidden, self._ops.index_array(np.array(rows, np.int32)))
        return self._ops.choose(self._model.logits(self._ops, part), choices)

    def hidden_on_host(self, hidden: Array, rows: Sequence[int]) -> np.ndarray:
        """A copy of some rows of `hidden_rows`, float32 [len(rows), n_embd]."""
        part = self._ops.take_rows(hidden, self._ops.index_array(np.array(rows, np.int32)))
        return np.array(self._ops.to_host(part))

    def _decode(
        self, chunks: Sequence[Chunk], k: int, asked: RequestRows | None, predecessor: Predecessor | None
    ) -> Output:
        """k rows for each of n_seqs sequences; a padded pass has rows after the chunks'."""
        n_blocks = max(len(chunk.block_ids) for chunk in chunks)
        n_seqs, n_columns = self._ops.padded_pass(len(chunks), n_blocks)
        padded = [*chunks, *[padding(k, chunks[0])] * (n_seqs - len(chunks))]
        build = build_decode_batch if k == 1 else build_batch
        batch = build(padded, self._block_size, self._ops, n_columns)
        choices = asked.padded(k * n_seqs).on(self._ops, batch.token_ids) if asked else None
        if predecessor is not None:
            # These come after the arrays that a recorded pass reads, which have to lie where they lay.
            assert k == 1, "a step that nobody has read is followed by one token a sequence"
            rows = self._ops.index_array(np.array([*predecessor.rows, *[-1] * (n_seqs - len(chunks))]))
            self._ops.pass_on(predecessor.chosen, rows, batch.token_ids)
        kind = (
            (choices.changes is not None, choices.mask is not None, choices.gives_logprobs)
            if choices
            else None
        )
        key = (n_seqs, k, n_columns, kind)
        logits, chosen = self._ops.recorded(self._recordings, key, lambda: self._logits(batch, choices))
        return Output(logits, chosen, k * len(chunks), k * n_seqs)

    def _logits(self, batch: Batch, choices: Choices | None) -> tuple[Array, Chosen | None]:
        """And what is chosen from them, in the same recording."""
        hidden = self._model.forward(self._ops, batch, self._caches)  # [n_rows, n_embd]
        logits = self._model.logits(self._ops, hidden)
        return logits, self._ops.choose(logits, choices) if choices else None
