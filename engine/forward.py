"""Chunks through a model to logits: the one place that knows a decode pass may be padded and replayed."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from engine.batch import PADDING, Batch, Chunk, build_batch, build_decode_batch
from engine.choice_rows import RequestRows
from kernels.choice_row import Choices, Chosen
from kernels.ops import Array, LayerCache, Ops
from kernels.recordings import Recordings


class Output(NamedTuple):
    """What a pass leaves on the backend, valid until the next one; a padded pass has rows beyond n_rows."""

    logits: Array  # [>= n_rows, n_vocab]
    chosen: Chosen | None  # of >= n_rows rows; None where nobody asked for a choice
    n_rows: int  # those the chunks want


class Predecessor(NamedTuple):
    """A pass whose tokens are on the backend only: row rows[i] of chosen has the token of the next pass's chunk i."""

    chosen: Chosen
    rows: Sequence[int]


class ForwardPass:
    """One model over one KV cache."""

    def __init__(self, model: Any, ops: Ops, layers: list[LayerCache], block_size: int) -> None:
        self._model = model
        self._ops = ops
        self._layers = layers
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
        if all(len(chunk.token_ids) == 1 and chunk.want_rows == 1 for chunk in chunks):
            return Output(*self._decode(chunks, asked, predecessor), len(chunks))
        assert predecessor is None, "only a decode step can follow one that nobody has read"
        batch = build_batch(chunks, self._block_size, self._ops)
        if batch.n_rows == 0:
            self._model.forward(self._ops, batch, self._layers)
            return None
        choices = asked.on(self._ops, batch.token_ids) if asked else None
        return Output(*self._logits(batch, choices), batch.n_rows)

    def _decode(
        self, chunks: Sequence[Chunk], asked: RequestRows | None, predecessor: Predecessor | None
    ) -> tuple[Array, Chosen | None]:
        """Of n_seqs rows; a padded pass has rows beyond the chunks'."""
        n_blocks = max(len(chunk.block_ids) for chunk in chunks)
        n_seqs, n_columns = self._ops.padded_pass(len(chunks), n_blocks)
        padded = [*chunks, *[PADDING] * (n_seqs - len(chunks))]
        batch = build_decode_batch(padded, self._block_size, self._ops, n_columns)
        choices = asked.padded(n_seqs).on(self._ops, batch.token_ids) if asked else None
        if (
            predecessor is not None
        ):  # after the arrays that a recorded pass reads, which have to lie where they lay
            rows = self._ops.index_array(np.array([*predecessor.rows, *[-1] * (n_seqs - len(chunks))]))
            self._ops.pass_on(predecessor.chosen, rows, batch.token_ids)
        kind = (
            (choices.changes is not None, choices.mask is not None, choices.gives_logprobs)
            if choices
            else None
        )
        key = (n_seqs, n_columns, kind)
        return self._ops.recorded(self._recordings, key, lambda: self._logits(batch, choices))

    def _logits(self, batch: Batch, choices: Choices | None) -> tuple[Array, Chosen | None]:
        """And what is chosen from them, in the same recording."""
        hidden = self._model.forward(self._ops, batch, self._layers)  # [n_rows, n_embd]
        logits = self._model.logits(self._ops, hidden)
        return logits, self._ops.choose(logits, choices) if choices else None
