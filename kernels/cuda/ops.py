"""The CUDA backend: the Ops protocol as launches on one stream of one GPU.

Bit for bit what the CPU backend computes: the linears by one formula (common/linear_formula.h), norms, exponentials
and attention in the CPU's own order. Where a linear follows, the int8 form of an activation is written by the kernel
that makes it. Only `to_host` and a reader of `fetch_chosen` wait for the device.
"""

from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import Any

import numpy as np

from kernels.activation_planes import checked_planes
from kernels.batches import AttentionBatch
from kernels.cache_groups import CacheGroup, LatentGroup, PagedGroup, StateGroup
from kernels.choice_row import Choices, Chosen, ChosenTokens
from kernels.cpu.ops import CpuOps
from kernels.cuda import attention_launch
from kernels.cuda.arena import Arena, DeviceArray, IndexArena, Int8Form
from kernels.cuda.attention_launch import LayerCache
from kernels.cuda.chooser import DeviceChooser
from kernels.cuda.delta_ops import CudaDeltaOps
from kernels.cuda.device import Device
from kernels.cuda.expert_ops import CudaExpertOps
from kernels.cuda.form_choice import FormChooser, fitting_forms
from kernels.cuda.host_parts import HostParts, OnHost
from kernels.cuda.indexer_ops import CudaIndexerOps
from kernels.cuda.latent_ops import CudaLatentOps, new_latent_cache
from kernels.cuda.linear_forms import (
    GATED_ROWS,
    NO_EPILOGUE,
    Epilogue,
    groups_of_one_launch,
    linear_launch,
)
from kernels.cuda.recorder import Recorder
from kernels.cuda.weights import DeviceMatrix, Uploader
from kernels.kv_type import KV_TYPES, head_bytes
from kernels.ops import ATTENTIONS, Result, Rotation
from kernels.quant_tensor import TYPES, QuantTensor, check_uses, checked_file_bytes
from kernels.recordings import Recordings

THREADS = 256  # of the kernels in activations.cu that work on single values
EMBED_COLUMNS = {"tiles": 64 * 32, "rows": 64 * 32, "dense": 64}  # of a block of threads, by layout
#: One part in this many of the free memory is left by a KV cache to activations, recorded passes and the driver.
WORKSPACE_SHARE = 8
#: Counters of gated.cuh, one for 32 outputs and the tokens of a block; a larger pass takes two launches.
ARRIVALS = 1 << 13
#: A block table has this many columns or twice, four times, ... as many, so that few passes are recorded.
LEAST_TABLE_COLUMNS = 16
#: Arrays as wide as the vocabulary that a pass holds at a time: logits, and logits with penalties and biases.
N_OUTPUTS = 2


class CudaOps(CudaExpertOps, CudaDeltaOps, CudaLatentOps, CudaIndexerOps):
    """device: the index of the GPU. planes: of activations. attention: "exact", the CPU's bits, or "tensor", on the
    f16 tensor cores. Raises CudaError where the device cannot be used.
    """

    name = "cuda"
    runs_asynchronously = True
    kv_types = KV_TYPES

    def __init__(self, device: int = 0, planes: int = 1, attention: str = "exact") -> None:
        assert attention in ATTENTIONS, attention
        self.attention_form = attention
        self.planes = checked_planes(planes)
        self._device = Device(device)
        self._uploader = Uploader(self._device)
        self._arena = Arena(self._device)
        self._indices = IndexArena(self._device)
        self._recorder = Recorder(self._device, self._arena)
        self._host_parts = HostParts(self._device, self._arena, self._recorder)
        self._forms = FormChooser(self._device)
        self._chooser = DeviceChooser(self._device, self._arena, self._run)
        self._host = self._device.pinned(0)
        self._arrivals = self._device.allocate(4 * ARRIVALS)  # every launch that counts in it leaves zeros
        self._device.clear(self._arrivals.pointer, 4 * ARRIVALS)
        self._cpu = CpuOps()  # looks at files before they go up
        self.device_name = self._device.name

    @property
    def device(self) -> Device:
        """Where its launches go: for tools that time them."""
        return self._device

    # Loading

    def load_quant(
        self, type_name: str, shape: tuple[int, int], data: Any, uses: frozenset[str]
    ) -> QuantTensor:
        check_uses(uses)
        file_bytes = checked_file_bytes(type_name, shape, data)
        quant_type = TYPES[type_name]
        self._device.use()
        matrix = self._uploader.matrix(quant_type, *shape, file_bytes, uses)
        return QuantTensor(matrix, quant_type, shape, matrix.buffer.n_bytes)

    def first_nonfinite_row(self, type_name: str, shape: tuple[int, int], data: Any) -> int | None:
        return self._cpu.first_nonfinite_row(type_name, shape, data)

    def load_vector(self, values: np.ndarray) -> DeviceArray:
        floats = np.array(values, np.float32).reshape(-1)
        buffer = self._device.allocate(floats.nbytes)
        self._device.upload(buffer.pointer, floats)
        self._device.synchronize()
        return DeviceArray(buffer.pointer, floats.shape, buffer)

    def new_cache(self, group: CacheGroup, n: int, block_size: int, kv_type: str = "f16") -> list[Any]:
        """Raises ValueError for a type or a head size that the attention kernels do not have."""
        if kv_type not in self.kv_types:
            raise ValueError(f"no cache of {kv_type}; the CUDA backend has {', '.join(self.kv_types)}")
        self._uploader.finish()
        if isinstance(group, StateGroup):
            return self.new_state_cache(group, n)
        if isinstance(group, LatentGroup):
            return new_latent_cache(self._device, group, n, block_size, kv_type)
        return self._new_paged_cache(group, n, block_size, kv_type)

    def _new_paged_cache(
        self, group: PagedGroup, n_blocks: int, block_size: int, kv_type: str
    ) -> list[LayerCache]:
        head_dim = group.head_dim
        on_tensor_cores = attention_launch.tensor_module(self.attention_form, kv_type, head_dim, block_size)
        n_bytes = n_blocks * block_size * group.n_head_kv * head_bytes(kv_type, head_dim)
        layers = []
        for _ in range(group.n_layer):
            k, v = self._device.allocate(n_bytes), self._device.allocate(n_bytes)
            self._device.clear(k.pointer, n_bytes)
            self._device.clear(v.pointer, n_bytes)
            modules = (f"attention_{kv_type}", on_tensor_cores)
            layers.append(LayerCache(*modules, k, v, group.n_head_kv, head_dim, block_size))
        return layers

    def free_bytes(self) -> int:
        free = self._device.free_bytes()
        return free - free // WORKSPACE_SHARE

    def index_array(self, values: np.ndarray) -> DeviceArray:
        return self._indices.put(values)

    # Each step

    def begin_step(self) -> None:
        self._device.use()
        self._indices.reset()

    def padded_pass(self, n_seqs: int, n_columns: int) -> tuple[int, int]:
        columns = LEAST_TABLE_COLUMNS
        while columns < n_columns:
            columns *= 2
        return 1 << (n_seqs - 1).bit_length(), columns

    def reserve_outputs(self, n_rows: int, n_columns: int) -> None:
        padded, _ = self.padded_pass(n_rows, 1)
        self._arena.reserve_outputs(N_OUTPUTS, padded, n_columns)

    def output_bytes(self, n_rows: int, n_columns: int) -> int:
        padded, _ = self.padded_pass(n_rows, 1)
        return N_OUTPUTS * 4 * padded * n_columns

    def recorded(self, recordings: Recordings, key: Hashable, compute: Callable[[], Result]) -> Result:
        self._indices.send()
        return self._recorder.run(recordings, (key, self._indices.place), compute)

    def hold(self, result: DeviceArray) -> DeviceArray:
        return self._arena.hold(result)

    def beside(
        self, x: DeviceArray, on_host: OnHost, n_out: int, on_device: Callable[[], Result]
    ) -> tuple[DeviceArray, Result]:
        return self._host_parts.run(x, on_host, n_out, on_device)

    def to_host(self, x: DeviceArray) -> np.ndarray:
        n_bytes = 4 * int(np.prod(x.shape))
        if self._host.nbytes < n_bytes:
            self._host = self._device.pinned(n_bytes)
        self._device.download(self._host[:n_bytes], x.pointer)
        self._device.synchronize()
        return self._host[:n_bytes].view(np.float32).reshape(x.shape)

    def embed(self, table: QuantTensor, token_ids: DeviceArray) -> DeviceArray:
        matrix: DeviceMatrix = table.data
        out = self._arena.take(len(token_ids), matrix.n_in)
        grid = (-(-matrix.n_in // EMBED_COLUMNS[matrix.layout]), len(token_ids))
        weights = (np.uint64(matrix.buffer.pointer), matrix.n_out, matrix.n_in)
        self._run(matrix.module, "embed", grid, 64, *weights, token_ids, out)
        return out

    def take_rows(self, x: DeviceArray, rows: DeviceArray) -> DeviceArray:
        n = x.shape[1]
        out = self._arena.take(len(rows), n)
        self._run("activations", "take_rows", (-(-n // THREADS), len(rows)), THREADS, x, rows, n, out)
        return out

    def rms_norm(self, x: DeviceArray, weight: DeviceArray, eps: float) -> DeviceArray:
        n_tokens, n = x.shape
        out = self._activation(n_tokens, n)
        self._run(
            "activations", "rms_norm", (n_tokens,), THREADS, x, weight, float(eps), n, out, *_int8_form(out)
        )
        return out

    def linear(self, x: DeviceArray, weight: QuantTensor) -> DeviceArray:
        return self.linear_many(x, (weight,))[0]

    def linear_many(self, x: DeviceArray, weights: Sequence[QuantTensor]) -> list[DeviceArray]:
        return (
            self._products(x, weights, NO_EPILOGUE)
            if self.planes == 1
            else self._linears_of_planes(x, weights, 0)
        )

    def linear_add(self, x: DeviceArray, weight: QuantTensor, residual: DeviceArray) -> DeviceArray:
        if self.planes == 2:
            return self._linears_of_planes(x, (weight,), residual.pointer)[0]
        return self._products(x, (weight,), Epilogue(residual=residual.pointer))[0]

    def gated_linear(self, x: DeviceArray, gate: QuantTensor, up: QuantTensor) -> DeviceArray:
        if self.planes == 2 or not self._gated_in_one_launch(x.shape[0], gate.data, up.data):
            return self.silu_mul(*self.linear_many(x, (gate, up)))
        out = self._activation(x.shape[0], gate.data.n_out)
        assert out.int8 is not None
        self._products(x, (gate, up), Epilogue(0, out.pointer, *out.int8, self._arrivals.pointer))
        return out

    def _gated_in_one_launch(self, n_tokens: int, gate: DeviceMatrix, up: DeviceMatrix) -> bool:
        alike = gate.module == up.module and gate.n_out == up.n_out and gate.n_out % GATED_ROWS == 0
        if not alike or gate.layout == "dense":
            return False
        n_groups = max(-(-n_tokens // form.tokens) for form in fitting_forms(gate, n_tokens))
        return n_groups * (gate.n_out // GATED_ROWS) <= ARRIVALS

    def _products(
        self, x: DeviceArray, weights: Sequence[QuantTensor], epilogue: Epilogue
    ) -> list[DeviceArray]:
        """Of weights with an epilogue: they fit one launch."""
        n_tokens = x.shape[0]
        matrices: list[DeviceMatrix] = [weight.data for weight in weights]
        outs = [self._arena.take(n_tokens, matrix.n_out) for matrix in matrices]
        int8, lease = x.int8, None  # lease: of an int8 form made here, used until the last launch
        for group in groups_of_one_launch(matrices):
            parts, part_outs = [matrices[i] for i in group], [outs[i] for i in group]
            if parts[0].layout == "dense":
                for matrix, out in zip(parts, part_outs, strict=True):
                    self._dense_linear(x, matrix, out, epilogue.residual)
                continue
            if int8 is None:
                int8, lease = self._quantized(x)
            self._indices.send()
            addresses = [out.pointer for out in part_outs]
            launch_of = partial(
                linear_launch, matrices=parts, x=int8, n_tokens=n_tokens, outs=addresses, epilogue=epilogue
            )
            self._device.launch(*launch_of(self._forms.form(parts, n_tokens, launch_of)))
        del lease
        return outs

    def _linears_of_planes(
        self, x: DeviceArray, weights: Sequence[QuantTensor], residual: int
    ) -> list[DeviceArray]:
        """Plus the residual. A token is two rows of products, then their sum; float matrices have no planes."""
        of_floats = [weight.data.layout == "dense" for weight in weights]
        floats = [weight for weight, is_float in zip(weights, of_floats, strict=True) if is_float]
        others = [weight for weight, is_float in zip(weights, of_floats, strict=True) if not is_float]
        whole = iter(self._products(x, floats, Epilogue(residual=residual)))
        pairs = iter(self._products(self._both_planes(x), others, NO_EPILOGUE) if others else [])
        return [
            next(whole) if is_float else self._sum_of_planes(next(pairs), residual) for is_float in of_floats
        ]

    def _both_planes(self, x: DeviceArray) -> DeviceArray:
        """Twice the rows of x, as int8 only."""
        n_tokens, n = x.shape
        int8, lease = self._arena.take_int8(2 * n_tokens, n)
        grid = (-(-n // THREADS), n_tokens)
        self._run("activations", "quantize_planes", grid, THREADS, x, n, *map(np.uint64, int8))
        return DeviceArray(0, (2 * n_tokens, n), lease, int8)

    def _sum_of_planes(self, pairs: DeviceArray, residual: int) -> DeviceArray:
        n_rows, n = pairs.shape
        out = self._arena.take(n_rows // 2, n)
        grid = (-(-n // THREADS), n_rows // 2)
        self._run("activations", "add_planes", grid, THREADS, pairs, n, np.uint64(residual), out)
        return out

    def add(self, x: DeviceArray, y: DeviceArray) -> DeviceArray:
        out = self._arena.take(*x.shape)
        n_values = np.int64(np.prod(x.shape))
        self._run("activations", "add", (-(-int(n_values) // THREADS),), THREADS, x, y, n_values, out)
        return out

    def add_bias(self, x: DeviceArray, bias: DeviceArray) -> DeviceArray:
        n_tokens, n = x.shape
        out = self._arena.take(n_tokens, n)
        self._run("activations", "add_bias", (-(-n // THREADS), n_tokens), THREADS, x, bias, n, out)
        return out

    def scale_by_position(
        self, x: DeviceArray, positions: DeviceArray, factors: DeviceArray, stride: int
    ) -> DeviceArray:
        n_tokens, n = x.shape
        out = self._arena.take(n_tokens, n)
        grid, last = (-(-n // THREADS), n_tokens), len(factors) - 1
        self._run(
            "activations", "scale_by_position", grid, THREADS, x, positions, factors, stride, last, n, out
        )
        return out

    def rope_angles(self, positions: DeviceArray, freqs: DeviceArray, mscale: float) -> DeviceArray:
        half = len(freqs)
        out = self._arena.take(len(positions), half, 2)
        grid = (-(-half // 32), len(positions))
        self._run("activations", "rope_angles", grid, 32, positions, freqs, float(mscale), half, out)
        return out

    def rope(self, x: DeviceArray, angles: DeviceArray, interleaved: bool) -> DeviceArray:
        n_tokens, n_head, head_dim = x.shape
        out = self._arena.take(n_tokens, n_head, head_dim)
        half = angles.shape[1]
        self._run(
            "activations", "rope", (n_head, n_tokens), 128, x, angles, head_dim, half, int(interleaved), out
        )
        return out

    def store_kv(self, k: DeviceArray, v: DeviceArray, cache: LayerCache, slots: DeviceArray) -> None:
        self._run(
            cache.module,
            "store_kv",
            (cache.n_head_kv, len(slots)),
            128,
            *(k, v, slots, cache.n_head_kv, cache.head_dim, cache.block_size),
            np.uint64(cache.k.pointer),
            np.uint64(cache.v.pointer),
        )

    def rope_and_store(
        self,
        q: DeviceArray,
        k: DeviceArray,
        v: DeviceArray,
        rotation: Rotation,
        cache: LayerCache,
        slots: DeviceArray,
    ) -> DeviceArray:
        n_tokens, n_head, head_dim = q.shape
        out = self._arena.take(n_tokens, n_head, head_dim)
        angles, interleaved = rotation
        self._run(
            cache.module,
            "rope_and_store",
            (n_head + cache.n_head_kv, n_tokens),
            128,
            *(q, k, v, angles, slots, n_head, cache.n_head_kv, head_dim, angles.shape[1], int(interleaved)),
            *(cache.block_size, np.uint64(cache.k.pointer), np.uint64(cache.v.pointer), out),
        )
        return out

    def attention(
        self,
        q: DeviceArray,
        cache: LayerCache,
        batch: AttentionBatch,
        scale: float,
        window: int | None = None,
    ) -> DeviceArray:
        out = self._arena.take(*q.shape)
        n_multiprocessors = self._device.n_multiprocessors
        attention_launch.attend(
            self._run, self._arena, n_multiprocessors, q, cache, batch, scale, window, out
        )
        return out

    def silu_mul(self, gate: DeviceArray, up: DeviceArray) -> DeviceArray:
        return self._activated_mul("silu_mul", gate, up)

    def gelu_mul(self, gate: DeviceArray, up: DeviceArray) -> DeviceArray:
        return self._activated_mul("gelu_mul", gate, up)

    def _activated_mul(self, kernel: str, gate: DeviceArray, up: DeviceArray) -> DeviceArray:
        n_tokens, n = gate.shape
        out = self._activation(n_tokens, n)
        grid = (-(-n // THREADS), n_tokens)
        self._run("activations", kernel, grid, THREADS, gate, up, n, out, *_int8_form(out))
        return out

    def choose(self, logits: DeviceArray, choices: Choices) -> Chosen:
        return self._chooser.choose(logits, choices)

    def fetch_chosen(self, chosen: Chosen, n_rows: int) -> Callable[[], ChosenTokens]:
        return self._chooser.fetch(chosen, n_rows)

    def pass_on(self, chosen: Chosen, rows: DeviceArray, token_ids: DeviceArray) -> None:
        self._chooser.pass_on(chosen, rows, token_ids)

    def _activation(self, n_tokens: int, n: int) -> DeviceArray:
        """What a linear is likely to read next. Its kernel writes one plane: two are made where they are read."""
        if n % 32 or self.planes == 2:
            return self._arena.take(n_tokens, n)
        return self._arena.take_with_int8(n_tokens, n)

    def _quantized(self, x: DeviceArray) -> tuple[Int8Form, object]:
        n_tokens, n = x.shape
        int8, lease = self._arena.take_int8(n_tokens, n)
        grid = (-(-n // THREADS), n_tokens)
        self._run("activations", "quantize_activations", grid, THREADS, x, n, *map(np.uint64, int8))
        return int8, lease

    def _dense_linear(self, x: DeviceArray, matrix: DeviceMatrix, out: DeviceArray, residual: int) -> None:
        grid = (-(-matrix.n_out // 32), -(-x.shape[0] // 8))
        weights = np.uint64(matrix.buffer.pointer)
        shape = (matrix.n_out, matrix.n_in, x.shape[0])
        self._run(matrix.module, "dense_linear", grid, 128, weights, x, *shape, out, np.uint64(residual))

    def _run(self, module: str, kernel: str, grid: tuple[int, ...], threads: int, *arguments: Any) -> None:
        if 0 in grid:
            return  # nobody reads a row of this pass; a device refuses to launch nothing
        self._indices.send()
        self._device.launch(module, kernel, grid, threads, [_scalar(a) for a in arguments])


def _int8_form(x: DeviceArray) -> tuple[np.uint64, ...]:
    return tuple(map(np.uint64, x.int8)) if x.int8 is not None else (np.uint64(0),) * 3


def _scalar(argument: Any) -> np.generic:
    """A kernel argument of its own type: arrays are addresses, int is int32, float float32."""
    if isinstance(argument, DeviceArray):
        return np.uint64(argument.pointer)
    if isinstance(argument, np.generic):
        return argument
    return np.int32(argument) if isinstance(argument, int) else np.float32(argument)
