"""One step on the backend: chunks -> batch -> model.forward -> logits of the rows someone reads -> ids.

Prefill and decode take the same path; only chunks that end at a sequence's newest token have a row to sample.
"""

from collections.abc import Sequence
from typing import Any

from engine.batch import Chunk, build_batch
from engine.kv_cache import KVCache
from engine.sampling import Sampled, sample
from engine.scheduler import ScheduledChunk
from kernels.ops import Ops


class Runner:
    """Runs scheduled chunks through one model. Keeps nothing from step to step but the KV cache."""

    def __init__(self, model: Any, ops: Ops, kv: KVCache) -> None:
        self._model = model
        self._ops = ops
        self._kv = kv

    def run(self, scheduled: Sequence[ScheduledChunk]) -> list[Sampled | None]:
        """What was chosen after each chunk; None where the chunk ends before the sequence does."""
        ops = self._ops
        ops.begin_step()
        batch = build_batch([_chunk(s) for s in scheduled], self._kv.block_size, ops)
        hidden = self._model.forward(ops, batch, self._kv.layers)  # [n_rows, n_embd]
        requests = [s.request for s in scheduled if s.is_last]
        if not requests:
            return [None] * len(scheduled)
        logits = ops.to_host(self._model.logits(ops, hidden))  # [n_rows, n_vocab]
        chosen = iter(sample(logits, requests))
        return [next(chosen) if s.is_last else None for s in scheduled]


def _chunk(scheduled: ScheduledChunk) -> Chunk:
    request, n_tokens = scheduled
    token_ids = request.token_ids[request.n_computed : request.n_computed + n_tokens]
    return Chunk(token_ids, request.n_computed, request.block_ids, want_rows=int(scheduled.is_last))
