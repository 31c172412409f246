"""Every native kernel over buffers that end at a guard page. A process of its own: what fails here dies.

python -m support.guarded_sweep TIER short|wide     all kernels; says before each case what it is
python -m support.guarded_sweep TIER FAULT          does what must not pass unnoticed: one of FAULTS
"""

import ctypes
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise, product
from typing import Any

import numpy as np

from kernels.batches import AttentionBatch, StateBatch
from kernels.cache_groups import LatentGroup, PagedGroup, StateGroup
from kernels.choice_row import Choices, as_ints
from kernels.cpu import _native
from kernels.delta_ops import DeltaGates
from kernels.expert_ops import Routing
from kernels.kv_type import KV_TYPES
from kernels.quant_tensor import TYPES
from kernels.random_weights import random_weight
from support.guarded import GuardedOps, empty, guarded
from support.random_choices import random_choices

#: Of `_native.Backend`, what is no kernel.
NOT_KERNELS = {"isa", "n_threads", "begin_program", "end_program", "run_program", "time_program"}
BOTH = frozenset({"linear", "embed"})

Case = tuple[str, Callable[[], Any]]  # what it is; run it and give its results


class Recorder:
    """The native backend, noting which of its kernels were called."""

    def __init__(self, native: Any) -> None:
        self._native = native
        self.called: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        self.called.add(name)
        return getattr(self._native, name)


def rng_of(*seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def normal(*shape: int) -> np.ndarray:
    return guarded(rng_of(*shape).standard_normal(shape).astype(np.float32))


def ints(*values: int) -> np.ndarray:
    return guarded(np.array(values, np.int32))


def widths(type_name: str, wide: bool) -> tuple[int, ...]:
    """Columns: one block or a tail of one, and sizes that leave a chain, a group of 256 or a vector partly filled."""
    block = TYPES[type_name].row_multiple
    few = {1: (1, 17, 413), 32: (32, 352), 256: (256, 768)}[block]
    many = {
        1: (1, 2, 15, 16, 31, 63, 64, 65, 127, 255, 256, 257, 319, 400, 413, 1025),
        32: (32, 64, 96, 128, 160, 192, 224, 256, 288, 480, 800, 1056),
        256: (256, 512, 768, 1024, 2304),
    }[block]
    return many if wide else few


def linear_cases(ops: GuardedOps, wide: bool) -> Iterator[Case]:
    """Packing, the check of factors, look-ups from tiles and from file rows, mat-vec and matmul."""
    row_counts = (1, 2, 15, 16, 17, 31, 32, 33, 37, 300) if wide else (1, 17, 32)
    batches = (*range(1, 14), 25, 37) if wide else (1, 2, 3, 13)
    for type_name, n_out in product(TYPES, row_counts):
        for n_in in widths(type_name, wide):
            yield (
                f"{type_name} {n_out}x{n_in}",
                lambda args=(type_name, n_out, n_in): use_matrix(ops, *args, batches),
            )


def use_matrix(
    ops: GuardedOps, type_name: str, n_out: int, n_in: int, batches: tuple[int, ...]
) -> list[np.ndarray]:
    data = random_weight(type_name, n_out, n_in, rng_of(n_out, n_in))
    assert ops.first_nonfinite_row(type_name, (n_out, n_in), data) is None
    rows = ops.load_quant(type_name, (n_out, n_in), data, frozenset({"embed"}))
    tiles = ops.load_quant(type_name, (n_out, n_in), data, BOTH)
    ids = ints(n_out - 1, 0, n_out - 1)
    results = [ops.embed(rows, ids), ops.embed(tiles, ids)]
    for n in batches:
        x = normal(n, n_in)
        results += ops.linear_many(x, (tiles, tiles))
        results += [ops.linear_add(x, tiles, normal(n, n_out)), ops.gated_linear(x, tiles, tiles)]
    return results


def stack_cases(ops: GuardedOps, wide: bool) -> Iterator[Case]:
    """Experts alone and in company, the router before them, heads."""
    row_counts, batches = ((1, 16, 17, 37, 300), (1, 2, 3, 13, 37)) if wide else ((17,), (1, 13))
    for type_name, n_out, n_tokens in product(TYPES, row_counts, batches):
        for n_in in widths(type_name, wide)[:-1]:
            yield (
                f"{n_tokens} tokens, experts {type_name} {n_out}x{n_in}",
                lambda args=(type_name, n_out, n_in, n_tokens): use_stack(ops, *args),
            )


def use_stack(ops: GuardedOps, type_name: str, n_out: int, n_in: int, n_tokens: int) -> list[np.ndarray]:
    data = random_weight(type_name, 3 * n_out, n_in, rng_of(n_out, n_in))
    stack = ops.load_stack(type_name, (3, n_out, n_in), data)
    routing = Routing("softmax", 2, n_group=3, n_group_used=2, normalize=True)
    routed = ops.route(normal(n_tokens, 3), normal(3), routing)
    return [
        routed.weights,
        ops.gated_experts(normal(n_tokens, n_in), stack, stack, routed),
        ops.experts_sum(normal(n_tokens, 2, n_in), stack, routed, normal(n_tokens, n_out)),
        ops.linear_heads(normal(n_tokens, 3, n_in), stack),
    ]


def attention_cases(ops: GuardedOps, wide: bool) -> Iterator[Case]:
    heads = ((8, 2), (3, 1), (40, 1)) if wide else ((6, 2), (3, 1))
    dims = (1, 6, 15, 16, 17, 32, 33, 80, 128, 160) if wide else (6, 32, 80)
    block_sizes = (16, 32, 48) if wide else (16, 32)
    contexts = (1, 15, 16, 17, 33, 64, 255, 256, 257, 530) if wide else (1, 16, 33, 257)
    for kv_type, (n_head, n_head_kv), head_dim, block_size, context in product(
        KV_TYPES, heads, dims, block_sizes, contexts
    ):
        yield (
            f"attention {kv_type} {n_head}/{n_head_kv}x{head_dim}, blocks of {block_size}, {context} keys",
            lambda args=(kv_type, n_head, n_head_kv, head_dim, block_size, context): attend(ops, *args),
        )


def attend(
    ops: GuardedOps, kv_type: str, n_head: int, n_head_kv: int, head_dim: int, block_size: int, context: int
) -> list[np.ndarray]:
    """A whole prompt, then its last token alone, in a cache that has not one position too many blocks."""
    n_blocks = -(-context // block_size)
    cache = ops.new_cache(PagedGroup(1, n_head_kv, head_dim), n_blocks, block_size, kv_type)[0]
    table = ops.index_array(np.arange(n_blocks - 1, -1, -1, dtype=np.int32)[None])  # the first keys come last
    positions = np.arange(context)
    slots = table[0][positions // block_size] * block_size + positions % block_size
    k = normal(context, n_head_kv, head_dim)
    ops.store_kv(k, k, cache, ops.index_array(slots))
    results = []
    for n in (min(context, 21), 1):
        batch = AttentionBatch(ints(0, n), ints(context), table)
        results.append(ops.attention(normal(n, n_head, head_dim), cache, batch, 0.3))
    return results


def latent_cases(ops: GuardedOps, wide: bool) -> Iterator[Case]:
    widths = (
        ((1, 1), (6, 5), (17, 16), (33, 1), (48, 32), (80, 65), (576, 512)) if wide else ((17, 5), (48, 32))
    )
    contexts = (1, 15, 16, 17, 33, 255, 256, 257) if wide else (1, 33, 257)
    for kv_type, n_head, (width, value_width), context in product(KV_TYPES, (1, 3, 40), widths, contexts):
        yield (
            f"{n_head} heads over {context} latents {kv_type} of {width}, values of {value_width}",
            lambda args=(kv_type, n_head, width, value_width, context): attend_latents(ops, *args),
        )


def attend_latents(
    ops: GuardedOps, kv_type: str, n_head: int, width: int, value_width: int, context: int
) -> list[np.ndarray]:
    """As `attend`, in blocks of 16."""
    n_blocks = -(-context // 16)
    cache = ops.new_cache(LatentGroup(1, width, value_width), n_blocks, 16, kv_type)[0]
    rows = ops.concat(normal(context, width - 1), normal(context, 1)) if width > 1 else normal(context, 1)
    ops.store_latent(rows, cache, ops.index_array(np.arange(context, dtype=np.int32)))
    exact = ops.new_cache(LatentGroup(1, width, width, is_exact=True), n_blocks, 16)[0]
    ops.store_latent(rows, exact, ops.index_array(np.arange(context, dtype=np.int32)))
    table, results = ops.index_array(np.arange(n_blocks, dtype=np.int32)[None]), []
    for n in (min(context, 21), 1):
        batch = AttentionBatch(ints(0, n), ints(context), table)
        chosen = ops.choose_keys(normal(n, n_head, width), normal(n, n_head), cache, batch, 16)
        q = normal(n, n_head, width)
        ops.choose_keys(q, normal(n, n_head), exact, batch, 5)
        results.append(ops.latent_attention(q, cache, batch, 0.3))
        results.append(ops.sparse_latent_attention(q, cache, batch, 0.3, guarded(chosen)))
    return results


def vector_cases(ops: GuardedOps, wide: bool) -> Iterator[Case]:
    sizes = (*range(1, 70), 255, 256, 257, 5000, 20000) if wide else (1, 15, 16, 17, 65, 300, 20000)
    for n in sizes:
        yield f"vectors of {n}", lambda n=n: use_vectors(ops, n)
    for head_dim in (2, 6, 20, 64, 130):
        for half in sorted({1, head_dim // 2}):
            yield (
                f"rope of {2 * half} of {head_dim}",
                lambda head_dim=head_dim, half=half: rotate(ops, head_dim, half),
            )
    for n in (1, 5, 4001):
        yield f"search of {n} codewords", lambda n=n: search(ops, n)


def use_vectors(ops: GuardedOps, n: int) -> list[np.ndarray]:
    x, y = normal(3, n), normal(3, n)
    exponentials = empty((3, n), np.float32)
    ops._native.exp(x, exponentials)
    return [
        exponentials,
        ops.rms_norm(x, normal(n), 1e-5),
        ops.layer_norm(x, normal(n), normal(n), 1e-5),
        ops.silu_mul(x, y),
        ops.gelu_mul(x, y),
        ops.add(x, y),
        ops.add_bias(x, normal(n)),
        ops.scale_by_position(x, ints(-1, 70, 7), normal(2), 4),
        ops.take_rows(x, ints(2, 0)),
    ]


def state_cases(ops: GuardedOps, wide: bool) -> Iterator[Case]:
    """Recurrent layers: widths of heads that fill no vector, few channels and more than one item's."""
    widths_of_heads = ((1, 1), (16, 16), (20, 84), (128, 128)) if wide else ((5, 7), (16, 80))
    heads = ((1, 1), (2, 6), (1, 5)) if wide else ((1, 3),)
    for (key_dim, value_dim), (n_k_head, n_head), n_taps in product(widths_of_heads, heads, (2, 4)):
        shape = (n_k_head, n_head, key_dim, value_dim, n_taps)
        yield f"states of {shape}", lambda shape=shape: recur(ops, *shape)


def recur(
    ops: GuardedOps, n_k_head: int, n_head: int, key_dim: int, value_dim: int, n_taps: int
) -> list[np.ndarray]:
    """A pass of a new sequence, one that goes on and a padding one, over two slots."""
    n_channels = 2 * n_k_head * key_dim + n_head * value_dim
    cache = ops.new_cache(StateGroup(1, n_channels, n_taps, n_head, key_dim, value_dim), 2, 16)[0]
    batch = StateBatch(ints(0, 5, 6, 7), ints(5, 9, 0), ints(1, 0, -1))
    qkv = ops.causal_conv(normal(7, n_channels), normal(n_taps * n_channels), cache, batch)
    gates = DeltaGates(normal(n_head), normal(n_head))
    x = normal(7, n_head)
    return [
        ops.delta_net(qkv, x, normal(7, n_head), gates, cache, batch, 1e-6),
        ops.sigmoid_mul(x, normal(7, n_head)),
        ops.add_gated(x, normal(7, n_head), normal(7, 1)),
    ]


def choice_cases(ops: GuardedOps, wide: bool) -> Iterator[Case]:
    for n_vocab in (*range(1, 70), 127, 128, 129, 5000) if wide else (1, 31, 33, 63, 65, 300):
        yield f"choices of {n_vocab}", lambda n_vocab=n_vocab: choose(ops, n_vocab)


def choose(ops: GuardedOps, n_vocab: int) -> list[np.ndarray]:
    """Row by row: then each lies before the guard page. Log-probabilities that nobody asked for are NaN."""
    case = random_choices(rng_of(n_vocab), 20, n_vocab)
    for i, (first, end) in enumerate(pairwise(case.starts)):
        rows, changes = as_ints(case.rows[i : i + 1]), as_ints(case.changes[first:end])
        mask, starts = guarded(case.mask[i : i + 1]), ints(0, end - first)
        token_ids = guarded(case.token_ids[i : i + 1])
        choices = Choices(guarded(rows), starts, token_ids, mask, guarded(changes), gives_logprobs=True)
        ops.choose(guarded(case.logits[i : i + 1]), choices)
    return []


def rotate(ops: GuardedOps, head_dim: int, half: int) -> list[np.ndarray]:
    angles = ops.rope_angles(ints(0, 7, 4000), normal(half), 1.0)
    return [angles, *(ops.rope(normal(3, 2, head_dim), angles, interleaved) for interleaved in (True, False))]


def search(ops: GuardedOps, n: int) -> list[np.ndarray]:
    found = empty(n, np.uint16)
    ops._native.nearest_iq4_kt(True, normal(n, 4), guarded(np.ones((n, 4), np.float32)), found)
    return [found]


def sweep(isa: str, wide: bool) -> None:
    ops = GuardedOps(threads=2, isa=isa)
    recorder: Any = Recorder(ops._native)
    ops._native = recorder
    groups = (
        linear_cases,
        stack_cases,
        attention_cases,
        latent_cases,
        state_cases,
        vector_cases,
        choice_cases,
    )
    for cases in groups:
        run_all(cases(ops, wide))
    print("two planes of activations")
    two_planes = GuardedOps(threads=2, isa=isa, planes=2)
    for cases in (linear_cases, stack_cases):
        run_all(cases(two_planes, wide))
    kernels = {name for name in dir(_native.Backend) if not name.startswith("_")} - NOT_KERNELS
    assert kernels <= recorder.called, f"no case for {sorted(kernels - recorder.called)}: add one above"


def run_all(cases: Iterator[Case]) -> None:
    for name, run in cases:
        print(name, flush=True)
        for result in run():
            assert np.isfinite(result).all(), f"{name}: not all of the result was written"


def read_past_an_array() -> None:
    x = normal(33)
    ctypes.string_at(x.ctypes.data + x.nbytes, 1)


def read_past_tiles(ops: GuardedOps) -> None:
    weight = ops.load_quant("IQ2_KT", (16, 256), random_weight("IQ2_KT", 16, 256, rng_of(0)), BOTH)
    ctypes.string_at(weight.data.address + weight.nbytes, 1)


def one_too_many(ops: GuardedOps, argument: int) -> None:
    """An addition of 34 numbers where one of its three arrays has 33."""
    arrays = [normal(34) for _ in range(3)]
    arrays[argument] = np.lib.stride_tricks.as_strided(normal(33), (34,), writeable=True)
    ops._native.add(*arrays)


#: What must end the process, and how it is done.
FAULTS: dict[str, Callable[[GuardedOps], None]] = {
    "read-past-an-array": lambda ops: read_past_an_array(),
    "read-past-tiles": read_past_tiles,
    "kernel-reads-past": lambda ops: one_too_many(ops, 1),
    "kernel-writes-past": lambda ops: one_too_many(ops, 2),
}


if __name__ == "__main__":
    tier, what = sys.argv[1:]
    if what in FAULTS:
        FAULTS[what](GuardedOps(threads=1, isa=tier))
        print("nothing noticed")
    else:
        sweep(tier, wide=what == "wide")
