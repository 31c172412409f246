"""One step on the backend: chunks -> forward pass -> logits of the rows someone reads -> ids that it chooses.

Prefill and decode take the same path; only chunks that end at a sequence's newest token have a row to sample.
Launching and reading are two calls: on a backend that runs asynchronously the next step can be launched between them,
so that a GPU has work while the host reads, sends and schedules.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from engine.batch import Chunk
from engine.choice_rows import TokenIds, rows_of
from engine.choosing import Sampled, sampled_tokens
from engine.forward import ForwardPass, Output, Predecessor
from engine.kv_cache import KVCache
from engine.scheduler import NextToken, ScheduledChunk
from kernels.choice_row import ChosenTokens
from kernels.ops import Ops


class Flight(NamedTuple):
    """A step that was launched and has yet to be read."""

    chunks: Sequence[ScheduledChunk]
    rows: Sequence[
        int | None
    ]  # of the output, chunk by chunk; None where a chunk ends before its sequence does
    output: Output | None  # None: no chunk has a row
    fetched: Callable[[], ChosenTokens] | None  # `Ops.fetch_chosen`


class Runner:
    """Runs scheduled chunks through one model. Keeps nothing from step to step but the KV cache."""

    def __init__(self, model: Any, ops: Ops, kv: KVCache, tokens: TokenIds) -> None:
        self._ops = ops
        self._tokens = tokens
        self._forward = ForwardPass(model, ops, kv.layers, kv.block_size)

    def launch(self, chunks: Sequence[ScheduledChunk]) -> Flight:
        """Start a step; backends that have nothing to wait for also end it."""
        requests = [chunk.request for chunk in chunks if chunk.is_last]
        output = self._forward.compute([_chunk(chunk) for chunk in chunks], rows_of(requests, self._tokens))
        numbers = iter(range(len(requests)))
        rows = [next(numbers) if chunk.is_last else None for chunk in chunks]
        return self._flight(chunks, rows, output)

    def launch_after(self, flight: Flight, tokens: Sequence[NextToken]) -> Flight:
        """Start the step after one that nobody has read and in which every chunk has a row."""
        assert flight.output is not None
        assert flight.output.chosen is not None
        requests = [token.request for token in tokens]
        chunks = [Chunk((0,), len(request.token_ids), request.block_ids) for request in requests]
        predecessor = Predecessor(flight.output.chosen, [token.chunk for token in tokens])
        output = self._forward.compute(chunks, rows_of(requests, self._tokens, n_unread=1), predecessor)
        rows = list(range(len(requests)))
        return self._flight([ScheduledChunk(request, 1) for request in requests], rows, output)

    def read(self, flight: Flight) -> list[Sampled | None]:
        """What was chosen after each chunk; None where the chunk ends before the sequence does."""
        if flight.fetched is None:
            return [None] * len(flight.chunks)
        requests = [
            chunk.request for chunk, row in zip(flight.chunks, flight.rows, strict=True) if row is not None
        ]
        sampled = sampled_tokens(flight.fetched(), requests)
        return [None if row is None else sampled[row] for row in flight.rows]

    def _flight(
        self, chunks: Sequence[ScheduledChunk], rows: Sequence[int | None], output: Output | None
    ) -> Flight:
        if output is None or output.chosen is None:
            return Flight(chunks, rows, output, None)
        return Flight(chunks, rows, output, self._ops.fetch_chosen(output.chosen, output.n_rows))


def _chunk(scheduled: ScheduledChunk) -> Chunk:
    request, n_tokens = scheduled
    token_ids = request.token_ids[request.n_computed : request.n_computed + n_tokens]
    return Chunk(token_ids, request.n_computed, request.block_ids, want_rows=int(scheduled.is_last))
