"""One step on the backend: chunks -> forward pass -> logits of the rows someone reads -> ids (choosing.py).

Prefill and decode take the same path; only chunks that end at a sequence's newest token have a row to sample.
"""

from collections.abc import Sequence
from typing import Any

from engine.batch import Chunk
from engine.choosing import choose, draws_of
from engine.forward import ForwardPass
from engine.kv_cache import KVCache
from engine.sampling import Sampled
from engine.scheduler import ScheduledChunk
from kernels.ops import Ops


class Runner:
    """Runs scheduled chunks through one model. Keeps nothing from step to step but the KV cache."""

    def __init__(self, model: Any, ops: Ops, kv: KVCache) -> None:
        self._ops = ops
        self._forward = ForwardPass(model, ops, kv.layers, kv.block_size)

    def run(self, scheduled: Sequence[ScheduledChunk]) -> list[Sampled | None]:
        """What was chosen after each chunk; None where the chunk ends before the sequence does."""
        requests = [s.request for s in scheduled if s.is_last]
        draws = draws_of(requests) if self._ops.chooser else None
        output = self._forward.compute([_chunk(s) for s in scheduled], draws)
        if output is None:
            return [None] * len(scheduled)
        chosen = iter(choose(self._ops, output, requests))
        return [next(chosen) if s.is_last else None for s in scheduled]


def _chunk(scheduled: ScheduledChunk) -> Chunk:
    request, n_tokens = scheduled
    token_ids = request.token_ids[request.n_computed : request.n_computed + n_tokens]
    return Chunk(token_ids, request.n_computed, request.block_ids, want_rows=int(scheduled.is_last))
