"""How attention goes to the device: which kernel computes it, over how many blocks.

exact: the CPU's bits (attention.cu). tensor: f16 tensor cores (attention_tensor.cu), other bits, as constant. Both
either walk over a token's splits in one block or give each split a block and merge after, which changes no bit.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from kernels.batches import AttentionBatch
from kernels.cuda.arena import Arena, DeviceArray
from kernels.cuda.compile import TENSOR_HEAD_DIMS
from kernels.cuda.device import DeviceBuffer
from kernels.ops import KV_SPLIT

MAX_HEAD_DIM = 256
EXACT_THREADS, EXACT_ROWS = 256, 8  # attention.cu, kSplit and kRows
TENSOR_THREADS, TILE_ROWS = 128, 16  # attention_tensor.cu, kThreads and kTileRows
TENSOR_DIMS, TENSOR_POSITIONS = 16, 32  # kv_fragments.cuh, kChunkDims and kRun
NO_WINDOW = 2**30  # more than any context; the kernels add positions to it
#: Splits of one token go to blocks of their own while that is what fills the GPU and their results are small.
SPLIT_BLOCKS_PER_MULTIPROCESSOR = 4
SPLIT_RESULT_BYTES = 64 << 20


class LayerCache(NamedTuple):
    """One layer's keys and values: the layouts of kv_cache.cuh."""

    module: str  # of the kernels for its type
    tensor_module: str | None  # of its attention on tensor cores; None: exact
    k: DeviceBuffer
    v: DeviceBuffer
    n_head_kv: int
    head_dim: int
    block_size: int


def tensor_module(attention: str, kv_type: str, head_dim: int, block_size: int) -> str | None:
    """None for exact attention. Raises ValueError for heads or blocks that the attention chosen does not have."""
    if attention == "exact":
        if head_dim % 2 or not 2 <= head_dim <= MAX_HEAD_DIM:
            raise ValueError(
                f"heads of {head_dim} values; the CUDA attention has even sizes up to {MAX_HEAD_DIM}"
            )
        return None
    if head_dim % TENSOR_DIMS or not TENSOR_DIMS <= head_dim <= MAX_HEAD_DIM:
        raise ValueError(
            f"heads of {head_dim} values; --attention tensor has multiples of {TENSOR_DIMS} up to {MAX_HEAD_DIM}, "
            "exact every even size"
        )
    if block_size % TENSOR_POSITIONS:
        raise ValueError(
            f"blocks of {block_size} tokens; --attention tensor has multiples of {TENSOR_POSITIONS}"
        )
    return (
        f"attention_tensor_{kv_type}_{next(largest for largest in TENSOR_HEAD_DIMS if head_dim <= largest)}"
    )


class Form(NamedTuple):
    """A kernel's share of a pass. grid: n_chunks of heads, n_blocks of tokens."""

    kernel: str
    n_chunks: int
    n_blocks: int
    tokens_per_block: int


def exact_form(n_tokens: int, n_head_kv: int, group: int) -> Form:
    tokens = max(1, EXACT_ROWS // group)
    return Form("attention", n_head_kv * -(-group // EXACT_ROWS), -(-n_tokens // tokens), tokens)


def tensor_form(n_tokens: int, n_seqs: int, n_head_kv: int, group: int, head_dim: int) -> Form:
    """Blocks of several tokens end where a sequence does, so there may be one more for each."""
    few = n_tokens <= n_seqs
    rows = TILE_ROWS * (1 if few else 4 if head_dim <= 128 else 2)  # attention_tensor.cu, Few and Many
    tokens = 1 if few else max(1, rows // group)
    n_blocks = (n_tokens + n_seqs * (tokens - 1)) // tokens
    return Form("attention_few" if few else "attention_many", n_head_kv * -(-group // rows), n_blocks, tokens)


def splits_of(n_positions: int, window: int, n_tokens: int) -> int:
    """The most splits of a context that n_tokens neighbouring tokens see any of."""
    n_seen = window + n_tokens - 1  # positions, which may begin anywhere in a split
    return min(-(-n_positions // KV_SPLIT), (n_seen - 2) // KV_SPLIT + 2)


def attend(
    run: Callable[..., None],
    arena: Arena,
    n_multiprocessors: int,
    q: DeviceArray,
    cache: LayerCache,
    batch: AttentionBatch,
    scale: float,
    window: int | None,
    out: DeviceArray,
) -> None:
    """out = attention of q, both [n_tokens, n_head, head_dim]. window: what a token sees at most; None: everything.

    run(module, kernel, grid, threads, *arguments) launches; arena has room for the results of splits.
    """
    n_tokens, n_head, head_dim = q.shape
    n_seqs, n_columns = batch.block_table.shape
    heads = (cache.n_head_kv, n_head // cache.n_head_kv)
    exact = cache.tensor_module is None
    form = exact_form(n_tokens, *heads) if exact else tensor_form(n_tokens, n_seqs, *heads, head_dim)
    tokens_per_split = 1 if exact else form.tokens_per_block
    window = NO_WINDOW if window is None else min(window, NO_WINDOW)
    n_splits = splits_of(n_columns * cache.block_size, window, tokens_per_split)
    n_values = n_tokens * n_head * n_splits
    arguments: tuple[Any, ...] = (
        *(q, np.uint64(cache.k.pointer), np.uint64(cache.v.pointer), *batch, n_seqs, n_columns, n_tokens),
        *(n_head, cache.n_head_kv, head_dim, cache.block_size, float(scale), window),
    )
    n_busy = form.n_chunks * (n_tokens if exact else form.n_blocks)  # blocks of one split
    walks = n_splits == 1 or n_busy >= SPLIT_BLOCKS_PER_MULTIPROCESSOR * n_multiprocessors
    if walks or 4 * n_values * head_dim > SPLIT_RESULT_BYTES:
        parts = []
    else:
        parts = [arena.take(n_values, width) for width in (1, 1, head_dim)]  # m, l and o of every split
    grid: tuple[int, ...] = (form.n_chunks, form.n_blocks)
    if not exact:
        grid = (*grid, n_splits if parts else 1)
        arguments = (*arguments, form.tokens_per_block, *(parts or (np.uint64(0),) * 3), out)
        run(cache.tensor_module, form.kernel, grid, TENSOR_THREADS, *arguments)
    elif not parts:
        run(cache.module, form.kernel, grid, EXACT_THREADS, *arguments, out)
    else:
        grid = (form.n_chunks, n_splits, n_tokens)
        run(cache.module, "attention_split", grid, EXACT_THREADS, *arguments, *parts)
    if parts:
        where = (batch.query_start, batch.context_lens, n_seqs, n_splits, head_dim, window)
        run(cache.module, "attention_merge", (n_head, n_tokens), EXACT_THREADS, *parts, *where, out)
