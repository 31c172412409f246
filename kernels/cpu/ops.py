"""The CPU backend: the Ops protocol over the native kernels.

Results live in buffers that are used again once nobody holds them, so a decode step allocates nothing. Weights,
caches and the kernels' scratch belong to the native module; here are shapes and the checks that need Python.
"""

import os
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import numpy as np

from kernels.activation_planes import checked_planes
from kernels.batches import AttentionBatch
from kernels.cache_groups import CacheGroup, LatentGroup, PagedGroup, StateGroup
from kernels.choice_row import LOGPROB_COLUMNS, Choices, Chosen, ChosenTokens, on_host
from kernels.cpu import _native
from kernels.cpu.arena import LANES, Arena, IndexMemory, OutputMemory, without_memory
from kernels.cpu.delta_ops import CpuDeltaOps
from kernels.cpu.expert_ops import CpuExpertOps
from kernels.cpu.indexer_ops import CpuIndexerOps
from kernels.cpu.latent_ops import CpuLatentOps, new_latent_cache
from kernels.kv_type import KV_TYPES
from kernels.ops import Result, Rotation
from kernels.process_limits import default_threads
from kernels.quant_tensor import TYPES, QuantTensor, check_uses, checked_file_bytes
from kernels.recordings import Recordings, map_arrays
from kernels.reference import choice

DENSE_TYPES = frozenset({"F32", "F16", "BF16"})
_LEAST_TABLE_COLUMNS = 16


class PagedCache(NamedTuple):
    """One layer's keys and values, laid out as kernels/cpu/kv_cache.h says: the native calls' arguments, in order."""

    kv_type: str
    k: np.ndarray  # uint8 [n_blocks, n_head_kv, bytes of a head's keys in one block]
    v: np.ndarray  # uint8 [n_blocks, n_head_kv, bytes of its values]
    block_size: int
    head_dim: int


class FileRows(NamedTuple):
    """An embedding table that no linear reads: the file's own bytes."""

    data: np.ndarray  # uint8


class Recording(NamedTuple):
    """A pass that can be run again."""

    addresses: list[int]  # of the step's index arrays
    compute: Callable[[], Any]  # holds what the program reads and nobody else may hold
    program: Any
    result: Any  # arrays `without_memory`: the arena has it


class CpuOps(CpuExpertOps, CpuDeltaOps, CpuLatentOps, CpuIndexerOps):
    """threads: None for `default_threads`. isa: None for the best tier, or its name. planes: of activations."""

    name = "cpu"
    runs_asynchronously = False
    kv_types = KV_TYPES

    def __init__(self, threads: int | None = None, isa: str | None = None, planes: int = 1) -> None:
        if threads is not None and not 1 <= threads <= 1024:
            raise ValueError(f"threads is {threads}; 1 to 1024 work")
        self._native = _native.Backend(
            threads or default_threads(), isa or os.environ.get("ESPALIER_ISA", ""), checked_planes(planes)
        )
        self.planes = planes
        self.n_threads: int = self._native.n_threads
        self.isa: str = self._native.isa
        self._outputs = OutputMemory()
        self._arena = Arena(self._outputs)
        # Recorded passes write to the memory of this arena whenever they run. It keeps that memory as long as it
        # lives, and no recording holds any, so that all of them use the same.
        self._recording_arena = Arena(self._outputs)
        self._indices = IndexMemory()

    # Loading

    def load_quant(
        self, type_name: str, shape: tuple[int, int], data: Any, uses: frozenset[str]
    ) -> QuantTensor:
        check_uses(uses)
        file_bytes = checked_file_bytes(type_name, shape, data)
        quant_type = TYPES[type_name]
        if "linear" in uses:
            matrix = self._native.pack(type_name, *shape, file_bytes)
            return QuantTensor(matrix, quant_type, shape, matrix.nbytes)
        return QuantTensor(FileRows(file_bytes.copy()), quant_type, shape, file_bytes.nbytes)

    def first_nonfinite_row(self, type_name: str, shape: tuple[int, int], data: Any) -> int | None:
        row = self._native.first_nonfinite_row(type_name, *shape, checked_file_bytes(type_name, shape, data))
        return None if row < 0 else row

    def load_vector(self, values: np.ndarray) -> np.ndarray:
        return np.array(values, np.float32).reshape(-1)

    def new_cache(self, group: CacheGroup, n: int, block_size: int, kv_type: str = "f16") -> list[Any]:
        """block_size must be a multiple of 16: the lanes of the score kernel are keys."""
        if block_size % LANES:
            raise ValueError(f"block_size is {block_size}; the CPU backend needs a multiple of {LANES}")
        if isinstance(group, LatentGroup):
            return new_latent_cache(group, n, block_size, kv_type)
        if isinstance(group, StateGroup):
            return self.new_state_cache(group, n)
        if not isinstance(group, PagedGroup):
            raise ValueError(f"the CPU backend has no {type(group).__name__}")
        k_bytes, v_bytes = _native.kv_bytes(kv_type, block_size, group.head_dim)
        return [
            PagedCache(
                kv_type,
                np.zeros((n, group.n_head_kv, k_bytes), np.uint8),
                np.zeros((n, group.n_head_kv, v_bytes), np.uint8),
                block_size,
                group.head_dim,
            )
            for _ in range(group.n_layer)
        ]

    def index_array(self, values: np.ndarray) -> np.ndarray:
        return self._indices.put(values)

    # Each step

    def begin_step(self) -> None:
        """Only index arrays are forgotten: another result's memory is free when the result is."""
        self._indices.reset()

    def free_bytes(self) -> None:
        """The cache lies in the host's memory."""

    def padded_pass(self, n_seqs: int, n_columns: int) -> tuple[int, int]:
        """Few widths of the block table, as few recordings: an unused column costs nothing."""
        return n_seqs, max(_LEAST_TABLE_COLUMNS, 1 << (n_columns - 1).bit_length())

    def reserve_outputs(self, n_rows: int, n_columns: int) -> None:
        self._outputs.reserve(n_rows, n_columns)

    def output_bytes(self, n_rows: int, n_columns: int) -> int:
        return 4 * n_rows * n_columns

    def hold(self, result: np.ndarray) -> np.ndarray:
        return result  # logits have memory of their own, which a choice takes none of

    def recorded(self, recordings: Recordings, key: Hashable, compute: Callable[[], Result]) -> Result:
        recording: Recording | None = recordings.get(key)
        if recording is None or recording.addresses != self._indices.addresses:
            recording = self._record(compute)
            recordings.put(key, recording)
        else:
            self._native.run_program(recording.program)
        result: Result = recording.result
        return result

    def _record(self, compute: Callable[[], Any]) -> Recording:
        arena, self._arena = self._arena, self._recording_arena
        self._native.begin_program()
        try:
            result = compute()
        finally:
            program = self._native.end_program()
            self._arena = arena
        return Recording(self._indices.addresses, compute, program, map_arrays(result, without_memory))

    def beside(
        self,
        x: np.ndarray,
        on_host: Callable[[np.ndarray], np.ndarray],
        n_out: int,
        on_device: Callable[[], Result],
    ) -> tuple[np.ndarray, Result]:
        """Host and device are one here."""
        return on_host(x), on_device()

    def to_host(self, x: np.ndarray) -> np.ndarray:
        return x

    def embed(self, table: QuantTensor, token_ids: np.ndarray) -> np.ndarray:
        out = self._arena.take(len(token_ids), table.shape[1])
        if isinstance(table.data, FileRows):
            self._native.embed_rows(table.type.name, table.data.data, *table.shape, token_ids, out)
        else:
            self._native.embed_tiles(table.data, token_ids, out)
        return out

    def take_rows(self, x: np.ndarray, rows: np.ndarray) -> np.ndarray:
        out = self._arena.take(len(rows), x.shape[1])
        self._native.take_rows(x, rows, out)
        return out

    def rms_norm(self, x: np.ndarray, weight: np.ndarray, eps: float) -> np.ndarray:
        out = self._arena.take(*x.shape)
        self._native.rms_norm(x, weight, eps, out)
        return out

    def linear(self, x: np.ndarray, weight: QuantTensor) -> np.ndarray:
        return self.linear_many(x, (weight,))[0]

    def linear_many(self, x: np.ndarray, weights: Sequence[QuantTensor]) -> list[np.ndarray]:
        outs = [self._arena.take(x.shape[0], weight.shape[0]) for weight in weights]
        self._native.linear(x, [weight.data for weight in weights], outs)
        return outs

    def linear_add(self, x: np.ndarray, weight: QuantTensor, residual: np.ndarray) -> np.ndarray:
        out = self._arena.take(x.shape[0], weight.shape[0])
        self._native.linear(x, [weight.data], [out], residual)
        return out

    def gated_linear(self, x: np.ndarray, gate: QuantTensor, up: QuantTensor) -> np.ndarray:
        out = self._arena.take(x.shape[0], gate.shape[0])
        self._native.gated_linear(x, gate.data, up.data, out)
        return out

    def add(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        out = self._arena.take(*x.shape)
        self._native.add(x, y, out)
        return out

    def add_bias(self, x: np.ndarray, bias: np.ndarray) -> np.ndarray:
        out = self._arena.take(*x.shape)
        self._native.add_bias(x, bias, out)
        return out

    def scale_by_position(
        self, x: np.ndarray, positions: np.ndarray, factors: np.ndarray, stride: int
    ) -> np.ndarray:
        out = self._arena.take(*x.shape)
        self._native.scale_by_position(x, positions, factors, stride, out)
        return out

    def rope_angles(self, positions: np.ndarray, freqs: np.ndarray, mscale: float) -> np.ndarray:
        out = self._arena.take(len(positions), len(freqs), 2)
        self._native.rope_angles(positions, freqs, mscale, out)
        return out

    def rope(self, x: np.ndarray, angles: np.ndarray, interleaved: bool) -> np.ndarray:
        out = self._arena.take(*x.shape)
        self._native.rope(x, angles, interleaved, out)
        return out

    def store_kv(self, k: np.ndarray, v: np.ndarray, cache: PagedCache, slots: np.ndarray) -> None:
        self._native.store_kv(k, v, *cache, slots)

    def rope_and_store(
        self,
        q: np.ndarray,
        k: np.ndarray,
        v: np.ndarray,
        rotation: Rotation,
        cache: PagedCache,
        slots: np.ndarray,
    ) -> np.ndarray:
        self.store_kv(self.rope(k, *rotation), v, cache, slots)
        return self.rope(q, *rotation)

    def attention(
        self,
        q: np.ndarray,
        cache: PagedCache,
        batch: AttentionBatch,
        scale: float,
        window: int | None = None,
    ) -> np.ndarray:
        out = self._arena.take(*q.shape)
        self._native.attention(q, *cache, *batch, scale, window, out)
        return out

    def silu_mul(self, gate: np.ndarray, up: np.ndarray) -> np.ndarray:
        out = self._arena.take(*gate.shape)
        self._native.silu_mul(gate, up, out)
        return out

    def gelu_mul(self, gate: np.ndarray, up: np.ndarray) -> np.ndarray:
        out = self._arena.take(*gate.shape)
        self._native.gelu_mul(gate, up, out)
        return out

    def choose(self, logits: np.ndarray, choices: Choices) -> Chosen:
        n_rows = len(logits)
        tokens = self._arena.take(n_rows, 2)
        logprobs = self._arena.take(n_rows, LOGPROB_COLUMNS) if choices.gives_logprobs else None
        self._native.choose(logits, *choices[:-1], tokens, logprobs)
        return Chosen(tokens, logprobs)

    def fetch_chosen(self, chosen: Chosen, n_rows: int) -> Callable[[], ChosenTokens]:
        return lambda: on_host(chosen, n_rows)

    def pass_on(self, chosen: Chosen, rows: np.ndarray, token_ids: np.ndarray) -> None:
        choice.pass_on(chosen, rows, token_ids)
