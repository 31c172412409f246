"""Chunks through a model to logits: the one place that knows a decode pass may be padded and replayed."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from engine.batch import PADDING, Batch, Chunk, build_batch, build_decode_batch
from engine.choice_plan import ChoicePlan
from kernels.ops import Array, LayerCache, Ops, Selection


class Output(NamedTuple):
    """What a pass leaves on the backend, valid until the next one; a padded pass has rows beyond n_rows."""

    logits: Array  # [>= n_rows, n_vocab]; a row that was chosen from has its changes in it
    chosen: Array | None  # [>= n_rows, 2], by `Chooser.choose`, where there was a plan
    n_rows: int  # those the chunks want


class Predecessor(NamedTuple):
    """A pass whose tokens are on the backend only: row rows[i] of chosen has the token of the next pass's chunk i."""

    chosen: Array
    rows: Sequence[int]


class ForwardPass:
    """One model over one KV cache."""

    def __init__(self, model: Any, ops: Ops, layers: list[LayerCache], block_size: int) -> None:
        self._model = model
        self._ops = ops
        self._layers = layers
        self._block_size = block_size
        self._identity = object()  # tells this model's recorded passes from another's on the same backend

    def run(self, chunks: Sequence[Chunk]) -> np.ndarray | None:
        """Logits of the rows the chunks want, [n_rows, n_vocab], valid until the next run; None for no rows."""
        output = self.compute(chunks)
        return None if output is None else self._ops.to_host(output.logits)[: output.n_rows]

    def compute(
        self,
        chunks: Sequence[Chunk],
        plan: ChoicePlan | None = None,
        predecessor: Predecessor | None = None,
    ) -> Output | None:
        """The same, left where it was computed, and chosen from by a plan for those rows.

        With a predecessor every chunk is one token, whatever it says, and wants its row.
        """
        self._ops.begin_step()
        if all(len(chunk.token_ids) == 1 and chunk.want_rows == 1 for chunk in chunks):
            return Output(*self._decode(chunks, plan, predecessor), len(chunks))
        assert predecessor is None, "only a decode step can follow one that nobody has read"
        batch = build_batch(chunks, self._block_size, self._ops)
        if batch.n_rows == 0:
            self._model.forward(self._ops, batch, self._layers)
            return None
        return Output(*self._logits(batch, self._selection(plan, batch)), batch.n_rows)

    def _decode(
        self, chunks: Sequence[Chunk], plan: ChoicePlan | None, predecessor: Predecessor | None
    ) -> tuple[Array, Array | None]:
        """Of n_seqs rows; a padded pass has rows beyond the chunks'."""
        n_blocks = max(len(chunk.block_ids) for chunk in chunks)
        n_seqs, n_columns = self._ops.padded_pass(len(chunks), n_blocks)
        padded = [*chunks, *[PADDING] * (n_seqs - len(chunks))]
        batch = build_decode_batch(padded, self._block_size, self._ops, n_columns)
        selection = self._selection(plan.padded(n_seqs) if plan else None, batch)
        if predecessor is not None:  # behind what a recorded pass reads, which has to lie where it lay
            rows = self._ops.index_array(np.array([*predecessor.rows, *[-1] * (n_seqs - len(chunks))]))
            assert self._ops.chooser is not None
            self._ops.chooser.pass_on(predecessor.chosen, rows, batch.token_ids)
        chooses, changes = plan is not None, plan is not None and plan.changes is not None
        key = (self._identity, n_seqs, n_columns, chooses, changes)
        return self._ops.recorded(key, lambda: self._logits(batch, selection))

    def _selection(self, plan: ChoicePlan | None, batch: Batch) -> Selection | None:
        if plan is None:
            return None
        # As the device wants them: rows of int32, whatever their fields are. Changes come last: they may be any
        # number, as nothing that a recorded pass reads lies behind them.
        draws, starts = self._ops.index_array(_as_ints(plan.draws)), self._ops.index_array(plan.starts)
        changes = None if plan.changes is None else self._ops.index_array(_as_ints(plan.changes))
        return Selection(draws, changes, starts, batch.token_ids)

    def _logits(self, batch: Batch, selection: Selection | None) -> tuple[Array, Array | None]:
        """And what is chosen from them, in the same recording."""
        hidden = self._model.forward(self._ops, batch, self._layers)  # [n_rows, n_embd]
        logits = self._model.logits(self._ops, hidden)
        chooser = self._ops.chooser
        return logits, chooser.choose(logits, selection) if chooser and selection else None


def _as_ints(array: np.ndarray) -> np.ndarray:
    return array.view(np.int32).reshape(len(array), array.itemsize // 4)
