"""Chunks through a model to logits: the one place that knows a decode pass may be padded and replayed."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from engine.batch import PADDING, Batch, Chunk, build_batch
from kernels.ops import Array, LayerCache, Ops


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
        self._ops.begin_step()
        if all(len(chunk.token_ids) == 1 and chunk.want_rows == 1 for chunk in chunks):
            return self._ops.to_host(self._decode(chunks))[: len(chunks)]
        batch = build_batch(chunks, self._block_size, self._ops)
        hidden = self._model.forward(self._ops, batch, self._layers)  # [n_rows, n_embd]
        return self._ops.to_host(self._model.logits(self._ops, hidden)) if batch.n_rows else None

    def _decode(self, chunks: Sequence[Chunk]) -> Array:
        """Logits [n_seqs, n_vocab]; a padded pass has rows beyond the chunks'."""
        n_blocks = max(len(chunk.block_ids) for chunk in chunks)
        n_seqs, n_columns = self._ops.padded_pass(len(chunks), n_blocks)
        padded = [*chunks, *[PADDING] * (n_seqs - len(chunks))]
        batch = build_batch(padded, self._block_size, self._ops, n_columns)
        return self._ops.recorded((self._identity, n_seqs, n_columns), lambda: self._logits(batch))

    def _logits(self, batch: Batch) -> Array:
        hidden = self._model.forward(self._ops, batch, self._layers)
        return self._model.logits(self._ops, hidden)
