"""Logits of a loaded model without the engine's scheduler."""

from itertools import pairwise
from typing import Any

import numpy as np

from engine.batch import Chunk, build_batch
from engine.kv_cache import CachePlan, CacheShape, new_groups
from engine.loading import LoadedModel

BLOCK_SIZE = 32


def logits_of(loaded: LoadedModel, token_ids: list[int], cuts: tuple[int, ...] = ()) -> np.ndarray:
    """Logits of every token, run in pieces, over cache blocks that lie in no order: [n_tokens, n_vocab]."""
    ops = loaded.ops
    n_blocks = -(-len(token_ids) // BLOCK_SIZE)
    caches = new_caches(loaded, n_blocks, BLOCK_SIZE)
    blocks = np.random.default_rng(len(token_ids)).permutation(n_blocks).tolist()
    rows, edges = [], (0, *cuts, len(token_ids))
    for first, last in pairwise(edges):
        ops.begin_step()
        chunk = Chunk(token_ids[first:last], first, blocks, last - first, state_slot_of(loaded, 0))
        hidden = loaded.model.forward(ops, build_batch([chunk], BLOCK_SIZE, ops), caches)
        rows.append(ops.to_host(loaded.model.logits(ops, hidden)).copy())
    return np.concatenate(rows)


def new_caches(loaded: LoadedModel, n_blocks: int, block_size: int, n_slots: int = 1) -> list[list[Any]]:
    """The caches of a model without an engine: n_blocks blocks, and n_slots states where it keeps them."""
    shape = CacheShape(loaded.model.cache_groups())
    return new_groups(loaded.ops, shape, CachePlan(n_blocks, n_slots), block_size)


def state_slot_of(loaded: LoadedModel, i: int) -> int | None:
    """Slot i for a model that keeps a recurrent state."""
    return i if CacheShape(loaded.model.cache_groups()).slot_bytes else None
