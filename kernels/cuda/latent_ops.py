"""Multi-head latent attention on CUDA (latent_attention.cu): the CPU's bits, with any `--attention`.

As for `attention`, a block walks over a token's splits, or each split has a block and they are merged after. A block
has up to sixteen heads of a token, which read the rows together, or four, where there would be too few blocks.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from kernels.batches import AttentionBatch
from kernels.cache_groups import LatentGroup
from kernels.cuda.arena import Arena, DeviceArray
from kernels.cuda.attention_launch import (
    NO_WINDOW,
    SPLIT_BLOCKS_PER_MULTIPROCESSOR,
    SPLIT_RESULT_BYTES,
)
from kernels.cuda.device import Device, DeviceBuffer
from kernels.kv_type import n_scales
from kernels.ops import KV_SPLIT

CONCAT_THREADS = 256  # activations.cu
THREADS, MERGE_THREADS = 128, 256  # latent_attention.cu and attention_merge.cuh
HEADS, FEW_HEADS = 16, 4  # latent_attention.cu, kHeads and kFewHeads
ROW_NUMBERS, BLOCK_POSITIONS = 16, 8  # latent_cache.cuh: a row and a block are multiples of these
#: Heads go to blocks by fours while there are fewer blocks of sixteen than this for each multiprocessor.
WIDE_BLOCKS_PER_MULTIPROCESSOR = 2


class LatentCache(NamedTuple):
    """One layer's rows: the layout of latent_cache.cuh."""

    module: str  # of the kernels for its type
    rows: DeviceBuffer
    width: int
    value_width: int
    block_size: int


class CudaLatentOps:
    """Operations on caches of latents (kernels/latent_ops.py)."""

    _arena: Arena
    _device: Device
    _run: Callable[..., None]

    def store_latent(self, rows: DeviceArray, cache: LatentCache, slots: DeviceArray) -> None:
        where = (cache.width, cache.block_size, np.uint64(cache.rows.pointer))
        self._run(cache.module, "store_latent", (len(slots),), THREADS, rows, slots, *where)

    def latent_attention(
        self, q: DeviceArray, cache: LatentCache, batch: AttentionBatch, scale: float
    ) -> DeviceArray:
        n_tokens, n_head, width = q.shape
        n_seqs, n_columns = batch.block_table.shape
        out = self._arena.take(n_tokens, n_head, cache.value_width)
        n_splits = -(-n_columns * cache.block_size // KV_SPLIT)
        n_multiprocessors = self._device.n_multiprocessors
        heads = heads_per_block(n_head, n_tokens * n_splits, n_multiprocessors)
        n_groups = -(-n_head // heads)
        arguments = (
            *(q, np.uint64(cache.rows.pointer), *batch, n_seqs, n_columns, n_head, width, cache.value_width),
            *(cache.block_size, float(scale), heads),
        )
        n_values = n_tokens * n_head * n_splits
        walks = n_splits == 1 or n_groups * n_tokens >= SPLIT_BLOCKS_PER_MULTIPROCESSOR * n_multiprocessors
        if walks or 4 * n_values * cache.value_width > SPLIT_RESULT_BYTES:
            self._run(cache.module, "latent_attention", (n_groups, n_tokens), THREADS, *arguments, out)
            return out
        parts = [self._arena.take(n_values, n) for n in (1, 1, cache.value_width)]  # m, l and o
        grid = (n_groups, n_splits, n_tokens)
        self._run(cache.module, "latent_split", grid, THREADS, *arguments, *parts)
        where = (batch.query_start, batch.context_lens, n_seqs, n_splits, cache.value_width, NO_WINDOW)
        self._run(cache.module, "attention_merge", (n_head, n_tokens), MERGE_THREADS, *parts, *where, out)
        return out

    def concat(self, x: DeviceArray, y: DeviceArray) -> DeviceArray:
        n, m = x.shape[-1], y.shape[-1]
        out = self._arena.take(*x.shape[:-1], n + m)
        grid = (math.prod(x.shape[:-1]), -(-(n + m) // CONCAT_THREADS))
        self._run("activations", "concat", grid, CONCAT_THREADS, x, y, n, m, out)
        return out


def heads_per_block(n_head: int, n_blocks: int, n_multiprocessors: int) -> int:
    """n_blocks: of a launch in which a block has all heads."""
    n_wide = n_blocks * -(-n_head // HEADS)
    return HEADS if n_wide >= WIDE_BLOCKS_PER_MULTIPROCESSOR * n_multiprocessors else FEW_HEADS


def new_latent_cache(
    device: Device, group: LatentGroup, n_blocks: int, block_size: int, kv_type: str
) -> list[LatentCache]:
    """One cache a layer. Zeroed. Raises ValueError for blocks and rows that the kernels do not have."""
    if group.is_exact:
        raise ValueError("the CUDA backend has no rows of latents in float32")
    if block_size % BLOCK_POSITIONS:
        raise ValueError(
            f"blocks of {block_size} tokens; the CUDA backend has multiples of {BLOCK_POSITIONS} for latents"
        )
    stride = -(-group.width // ROW_NUMBERS) * ROW_NUMBERS
    row_bytes = 2 * stride if kv_type == "f16" else stride + 2 * n_scales(group.width)
    layers = []
    for _ in range(group.n_layer):
        rows = device.allocate(n_blocks * block_size * row_bytes)
        device.clear(rows.pointer, n_blocks * block_size * row_bytes)
        layers.append(LatentCache(f"latent_{kv_type}", rows, group.width, group.value_width, block_size))
    return layers
