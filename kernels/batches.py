"""The arrays of a forward pass that say which of its tokens are whose, and where their sequences' caches lie."""

from typing import Any, NamedTuple

Array = Any  # a backend's own: numpy.ndarray on the CPU and the reference backend
LayerCache = Any  # one layer's cache, in the backend's own layout


class AttentionBatch(NamedTuple):
    """Where each sequence's tokens and cached keys are. Backend arrays, int32."""

    query_start: Array  # [n_seqs + 1]  token range of sequence i is query_start[i]:query_start[i + 1]
    context_lens: Array  # [n_seqs]  cached tokens of sequence i, this pass's included
    block_table: Array  # [n_seqs, max_blocks]  KV block ids, in order; unused entries -1


class StateBatch(NamedTuple):
    """Where each sequence's recurrent state is. Backend arrays, int32; the first two are those of AttentionBatch.

    A sequence whose context is this pass's tokens alone begins with a state of zeros, whatever its slot holds.
    """

    query_start: Array  # [n_seqs + 1]
    context_lens: Array  # [n_seqs]
    slots: Array  # [n_seqs]  -1: a padding sequence, of which nothing is read or stored
