"""Decode passes of many shapes over a model that is nearly all logits."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np

from engine.batch import Chunk
from engine.forward import ForwardPass
from kernels.cpu.ops import CpuOps
from kernels.ops import Ops
from kernels.random_weights import random_weight

MAX_BATCH, N_VOCAB, N_EMBD, BLOCK_SIZE = 50, 16384, 32, 16
OUTPUT_BYTES = 4 * MAX_BATCH * N_VOCAB
#: 500 shapes of a decode step: every batch size with ten widths of the block table.
SHAPES = [(n_seqs, 1 << width) for width in range(10) for n_seqs in range(1, MAX_BATCH + 1)]


def wide_model(ops: Ops) -> SimpleNamespace:
    """A vocabulary and no layers: its logits are nearly all that a pass computes."""
    data = random_weight("Q8_0", N_VOCAB, N_EMBD, np.random.default_rng(1))
    table = ops.load_quant("Q8_0", (N_VOCAB, N_EMBD), data, frozenset({"embed", "linear"}))
    return SimpleNamespace(
        forward=lambda ops, batch, layers: ops.embed(table, batch.token_ids),
        logits=lambda ops, hidden: ops.linear(hidden, table),
    )


def decode(forward: ForwardPass, n_seqs: int, n_blocks: int) -> np.ndarray:
    blocks = tuple(range(n_blocks))
    logits = forward.run([Chunk((i,), BLOCK_SIZE * n_blocks - 1, blocks) for i in range(n_seqs)])
    assert logits is not None
    return logits


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return 4096 * pages


def grow() -> None:
    """Prints how much resident memory 500 shapes have added to the largest one's; run in a process of its own."""
    ops = CpuOps(threads=1)
    ops.reserve_outputs(MAX_BATCH, N_VOCAB)
    forward = ForwardPass(wide_model(ops), ops, [], BLOCK_SIZE)
    decode(forward, *SHAPES[0])
    before = resident_bytes()
    for shape in SHAPES:
        decode(forward, *shape)
    print(resident_bytes() - before)
