"""One forward pass, flattened: which tokens, at which positions, writing to which KV slots.

The model sees nothing but these arrays. A chunk is a prompt's next piece or one decoded token: there is one
path, and prefill and decode differ only in how many tokens a chunk brings.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from kernels.batches import Array, AttentionBatch, StateBatch
from kernels.ops import Ops


class Chunk(NamedTuple):
    """The next tokens of one sequence."""

    token_ids: Sequence[int]
    n_cached: int  # tokens of this sequence already in the KV cache
    block_ids: Sequence[int]  # its KV blocks, long enough for n_cached + len(token_ids)
    want_rows: int = 1  # how many of the last tokens need an output row; 0: nobody reads this chunk's output
    state_slot: int | None = None  # where its recurrent state is; None: the model has none


def padding(n_tokens: int, like: Chunk) -> Chunk:
    """Fills a decode pass up to a size that a backend has recorded. like: a chunk of that pass.

    It holds no block, so its row of the block table is all -1; its positions are negative, so its slots are -1 (not
    stored), and its context length is 0 (sees nothing). Its state, where the others have one, has slot -1 too.
    """
    state_slot = None if like.state_slot is None else -1
    return Chunk((0,) * n_tokens, -n_tokens, (), want_rows=n_tokens, state_slot=state_slot)


@dataclass(frozen=True)
class Batch:
    """The arrays of one forward pass, on the backend's device, int32."""

    token_ids: Array  # [n_tokens]
    positions: Array  # [n_tokens]
    slots: Array  # [n_tokens]  block_id * block_size + offset in the block
    hidden_rows: Array  # [n_rows]  the tokens whose output someone reads, chunk by chunk, in order
    attention: AttentionBatch
    state: StateBatch | None  # where the chunks have recurrent states
    n_tokens: int
    n_rows: int


def build_batch(chunks: Sequence[Chunk], block_size: int, ops: Ops, n_columns: int | None = None) -> Batch:
    """Lay the chunks end to end. Every chunk has at least one token and blocks enough for its context.

    n_columns: of the block table; None: as many as the longest list of blocks.
    """
    lengths = np.array([len(c.token_ids) for c in chunks], np.int32)
    n_cached = np.array([c.n_cached for c in chunks], np.int32)
    want_rows = np.array([c.want_rows for c in chunks], np.int32)
    assert len(lengths) > 0, "a batch without chunks"
    assert lengths.min() > 0, "a chunk without tokens"
    assert (want_rows >= 0).all(), "a negative number of rows"
    assert (want_rows <= lengths).all(), "more rows wanted than the chunk has tokens"

    query_start = np.zeros(len(chunks) + 1, np.int32)
    np.cumsum(lengths, out=query_start[1:])
    positions = _ranges(n_cached, lengths)
    context_lens = n_cached + lengths
    block_table = _block_table(chunks, context_lens, block_size, n_columns)
    sequence = np.repeat(np.arange(len(chunks)), lengths)  # [n_tokens]
    slots = block_table[sequence, positions // block_size] * block_size + positions % block_size
    slots[positions < 0] = -1
    hidden_rows = _ranges(query_start[1:] - want_rows, want_rows)
    attention = AttentionBatch(*map(ops.index_array, (query_start, context_lens, block_table)))

    return Batch(
        token_ids=ops.index_array(np.concatenate([np.asarray(c.token_ids, np.int32) for c in chunks])),
        positions=ops.index_array(positions),
        slots=ops.index_array(slots),
        hidden_rows=ops.index_array(hidden_rows),
        attention=attention,
        state=_states(chunks, attention, ops),
        n_tokens=int(query_start[-1]),
        n_rows=len(hidden_rows),
    )


def build_decode_batch(chunks: Sequence[Chunk], block_size: int, ops: Ops, n_columns: int) -> Batch:
    """The same as build_batch for chunks of one token and one row each, with fewer NumPy calls.

    After a forward pass the CPU's caches hold weights, so each call is slow. n_columns: of the block table.
    """
    n = len(chunks)
    table = np.full((n, n_columns), -1, np.int32)
    lists: list[list[int]] = [[], [], [], []]
    ids, positions, slots, contexts = lists
    for row, (token_ids, position, block_ids, _, _) in zip(table, chunks, strict=True):
        ids.append(token_ids[0])
        positions.append(position)
        contexts.append(position + 1)
        if block_ids:
            assert len(block_ids) * block_size > position, "a chunk has too few KV blocks for its context"
            row[: len(block_ids)] = block_ids
            slots.append(block_ids[position // block_size] * block_size + position % block_size)
        else:
            slots.append(-1)
    token_ids, position_array, slot_array, context_array = map(ops.index_array, np.array(lists, np.int32))
    numbers = np.arange(n + 1, dtype=np.int32)
    hidden_rows = ops.index_array(numbers[:n])
    attention = AttentionBatch(ops.index_array(numbers), context_array, ops.index_array(table))
    states = _states(chunks, attention, ops)
    return Batch(token_ids, position_array, slot_array, hidden_rows, attention, states, n, n)


def _states(chunks: Sequence[Chunk], attention: AttentionBatch, ops: Ops) -> StateBatch | None:
    slots = [chunk.state_slot for chunk in chunks if chunk.state_slot is not None]
    if not slots:
        return None
    assert len(slots) == len(chunks), "some chunks have a recurrent state and others have none"
    slot_array = ops.index_array(np.array(slots, np.int32))
    return StateBatch(attention.query_start, attention.context_lens, slot_array)


def _ranges(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """range(start, start + length) for each pair, laid end to end, int32."""
    ends = np.cumsum(lengths, dtype=np.int32)
    within = np.arange(ends[-1], dtype=np.int32) - np.repeat(ends - lengths, lengths)
    return np.repeat(starts, lengths).astype(np.int32) + within


def _block_table(
    chunks: Sequence[Chunk], context_lens: np.ndarray, block_size: int, n_columns: int | None
) -> np.ndarray:
    """[n_seqs, n_columns] int32, unused entries -1."""
    n_blocks = np.array([len(c.block_ids) for c in chunks])
    assert (n_blocks * block_size >= context_lens).all(), "a chunk has too few KV blocks for its context"
    table = np.full((len(chunks), int(n_blocks.max()) if n_columns is None else n_columns), -1, np.int32)
    for row, chunk in zip(table, chunks, strict=True):
        row[: len(chunk.block_ids)] = chunk.block_ids
    return table
