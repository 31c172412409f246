"""One step on the backend: chunks -> forward pass -> logits of the rows someone reads -> ids (choosing.py).

Prefill and decode take the same path; only chunks that end at a sequence's newest token have a row to sample.
Launching and reading are two calls: on a backend that chooses tokens itself the next step can be launched between
them, so that a GPU has work while the host reads, sends and schedules.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from engine.batch import Chunk
from engine.choice_plan import ChoicePlan, plan_choices
from engine.choosing import choose, fetch
from engine.forward import ForwardPass, Output, Predecessor
from engine.kv_cache import KVCache
from engine.request import Request
from engine.sampling import Sampled
from engine.scheduler import NextToken, ScheduledChunk
from kernels.ops import Ops


class Flight(NamedTuple):
    """A step that was launched and has yet to be read."""

    chunks: Sequence[ScheduledChunk]
    rows: Sequence[
        int | None
    ]  # of the output, chunk by chunk; None where a chunk ends before its sequence does
    requests: Sequence[Request]  # of those rows
    output: Output | None
    by_host: Sequence[int]  # rows whose tokens the host chooses
    fetched: Callable[[], np.ndarray] | None  # of `choosing.fetch`

    @property
    def can_be_followed(self) -> bool:
        """Every token is chosen where the next step can find it."""
        return self.fetched is not None and not self.by_host


class Runner:
    """Runs scheduled chunks through one model. Keeps nothing from step to step but the KV cache."""

    def __init__(self, model: Any, ops: Ops, kv: KVCache) -> None:
        self._ops = ops
        self._forward = ForwardPass(model, ops, kv.layers, kv.block_size)

    def launch(self, chunks: Sequence[ScheduledChunk]) -> Flight:
        """Start a step; backends that have nothing to wait for also end it."""
        requests = [chunk.request for chunk in chunks if chunk.is_last]
        plan = plan_choices(requests) if self._ops.chooser else None
        output = self._forward.compute([_chunk(chunk) for chunk in chunks], plan)
        numbers = iter(range(len(requests)))
        rows = [next(numbers) if chunk.is_last else None for chunk in chunks]
        return self._flight(chunks, rows, requests, plan, output)

    def launch_after(self, flight: Flight, tokens: Sequence[NextToken]) -> Flight:
        """Start the step after one that `can_be_followed` and that nobody has read."""
        assert flight.output is not None
        requests = [token.request for token in tokens]
        chunks = [Chunk((0,), len(request.token_ids), request.block_ids) for request in requests]
        # Each of its chunks has a row, or its last tokens would not all have been chosen.
        predecessor = Predecessor(flight.output.chosen, [token.chunk for token in tokens])
        plan = plan_choices(requests, n_unread=1)
        output = self._forward.compute(chunks, plan, predecessor)
        rows = list(range(len(requests)))
        return self._flight(
            [ScheduledChunk(request, 1) for request in requests], rows, requests, plan, output
        )

    def read(self, flight: Flight) -> list[Sampled | None]:
        """What was chosen after each chunk; None where the chunk ends before the sequence does."""
        if flight.output is None:
            return [None] * len(flight.chunks)
        chosen = choose(self._ops, flight.output, flight.fetched, flight.by_host, flight.requests)
        return [None if row is None else chosen[row] for row in flight.rows]

    def _flight(
        self,
        chunks: Sequence[ScheduledChunk],
        rows: Sequence[int | None],
        requests: Sequence[Request],
        plan: ChoicePlan | None,
        output: Output | None,
    ) -> Flight:
        by_host = plan.by_host if plan else list(range(len(requests)))
        fetched = None if output is None else fetch(self._ops, output, by_host)
        return Flight(chunks, rows, requests, output, by_host, fetched)


def _chunk(scheduled: ScheduledChunk) -> Chunk:
    request, n_tokens = scheduled
    token_ids = request.token_ids[request.n_computed : request.n_computed + n_tokens]
    return Chunk(token_ids, request.n_computed, request.block_ids, want_rows=int(scheduled.is_last))
