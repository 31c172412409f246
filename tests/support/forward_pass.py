"""Logits of a loaded model without the engine's scheduler."""

from itertools import pairwise

import numpy as np

from engine.batch import Chunk, build_batch
from engine.loading import LoadedModel

BLOCK_SIZE = 32


def logits_of(loaded: LoadedModel, token_ids: list[int], cuts: tuple[int, ...] = ()) -> np.ndarray:
    """Logits of every token, run in pieces, over cache blocks that lie in no order: [n_tokens, n_vocab]."""
    config, ops = loaded.config, loaded.ops
    n_blocks = -(-len(token_ids) // BLOCK_SIZE)
    cache = ops.new_kv_cache(config.n_layer, n_blocks, BLOCK_SIZE, config.n_head_kv, config.head_dim)
    blocks = np.random.default_rng(len(token_ids)).permutation(n_blocks).tolist()
    rows, edges = [], (0, *cuts, len(token_ids))
    for first, last in pairwise(edges):
        ops.begin_step()
        chunk = Chunk(token_ids[first:last], first, blocks, want_rows=last - first)
        hidden = loaded.model.forward(ops, build_batch([chunk], BLOCK_SIZE, ops), cache)
        rows.append(ops.to_host(loaded.model.logits(ops, hidden)).copy())
    return np.concatenate(rows)
