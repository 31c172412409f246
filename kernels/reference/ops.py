"""The numpy reference: slow and obvious. It is what every op means; the other backends are tested against it."""

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np

from kernels.activation_planes import checked_planes
from kernels.batches import AttentionBatch
from kernels.cache_groups import CacheGroup, LatentGroup, PagedGroup, StateGroup
from kernels.choice_row import Choices, Chosen, ChosenTokens, on_host
from kernels.kv_type import KV_TYPES
from kernels.ops import Result, Rotation
from kernels.quant_tensor import TYPES, QuantTensor, check_uses, checked_file_bytes
from kernels.recordings import Recordings
from kernels.reference import choice
from kernels.reference.activations import gelu_mul, silu_mul
from kernels.reference.attention import attend
from kernels.reference.delta_ops import ReferenceDeltaOps, new_state_cache
from kernels.reference.expert_ops import ReferenceExpertOps
from kernels.reference.formats import dequantize, finite_rows
from kernels.reference.indexer_ops import ReferenceIndexerOps
from kernels.reference.kv_cache import LayerCache, new_values
from kernels.reference.latent_ops import ReferenceLatentOps, new_latent_cache
from kernels.reference.linear import linear_int8


class ReferenceOps(ReferenceExpertOps, ReferenceDeltaOps, ReferenceLatentOps, ReferenceIndexerOps):
    """Weights stay as the file's bytes and are decoded whenever they are used. planes: of activations."""

    name = "reference"
    runs_asynchronously = False
    kv_types = KV_TYPES

    def __init__(self, planes: int = 1) -> None:
        self.planes = checked_planes(planes)

    def load_quant(
        self, type_name: str, shape: tuple[int, int], data: Any, uses: frozenset[str]
    ) -> QuantTensor:
        check_uses(uses)
        file_bytes = checked_file_bytes(type_name, shape, data).copy()
        return QuantTensor(file_bytes, TYPES[type_name], shape, file_bytes.nbytes)

    def first_nonfinite_row(self, type_name: str, shape: tuple[int, int], data: Any) -> int | None:
        bad = ~finite_rows(type_name, np.frombuffer(data, np.uint8), *shape)
        return int(np.argmax(bad)) if bad.any() else None

    def load_vector(self, values: np.ndarray) -> np.ndarray:
        return np.array(values, np.float32).reshape(-1)

    def new_cache(self, group: CacheGroup, n: int, block_size: int, kv_type: str = "f16") -> list[Any]:
        if isinstance(group, LatentGroup):
            return new_latent_cache(group, n, block_size, kv_type)
        if isinstance(group, StateGroup):
            return new_state_cache(group, n)
        if not isinstance(group, PagedGroup):
            raise ValueError(f"the reference backend has no {type(group).__name__}")
        shape = (n, block_size, group.n_head_kv, group.head_dim)
        return [
            LayerCache(new_values(kv_type, shape), new_values(kv_type, shape), block_size)
            for _ in range(group.n_layer)
        ]

    def index_array(self, values: np.ndarray) -> np.ndarray:
        return np.asarray(values, np.int32)

    def begin_step(self) -> None:
        """Every result here has memory of its own."""

    def free_bytes(self) -> None:
        """The cache lies in the host's memory."""

    def padded_pass(self, n_seqs: int, n_columns: int) -> tuple[int, int]:
        return n_seqs, n_columns

    def reserve_outputs(self, n_rows: int, n_columns: int) -> None:
        """Every result here has memory of its own."""

    def output_bytes(self, n_rows: int, n_columns: int) -> int:
        return 4 * n_rows * n_columns

    def recorded(self, recordings: Recordings, key: Hashable, compute: Callable[[], Result]) -> Result:
        return compute()

    def hold(self, result: np.ndarray) -> np.ndarray:
        return result

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
        n_out, n_in = table.shape
        rows = table.data.reshape(n_out, -1)[token_ids]
        return dequantize(table.type.name, np.ascontiguousarray(rows).reshape(-1), len(token_ids), n_in)

    def take_rows(self, x: np.ndarray, rows: np.ndarray) -> np.ndarray:
        return x[rows]

    def rms_norm(self, x: np.ndarray, weight: np.ndarray, eps: float) -> np.ndarray:
        mean = np.mean(np.square(x, dtype=np.float32), axis=-1, keepdims=True, dtype=np.float32)
        return x / np.sqrt(mean + np.float32(eps)) * weight

    def linear(self, x: np.ndarray, weight: QuantTensor) -> np.ndarray:
        return linear_int8(x, weight.type.name, weight.data, weight.shape[0], self.planes)

    def linear_many(self, x: np.ndarray, weights: Sequence[QuantTensor]) -> list[np.ndarray]:
        return [self.linear(x, weight) for weight in weights]

    def linear_add(self, x: np.ndarray, weight: QuantTensor, residual: np.ndarray) -> np.ndarray:
        return residual + self.linear(x, weight)

    def gated_linear(self, x: np.ndarray, gate: QuantTensor, up: QuantTensor) -> np.ndarray:
        return self.silu_mul(self.linear(x, gate), self.linear(x, up))

    def add(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return x + y

    def add_bias(self, x: np.ndarray, bias: np.ndarray) -> np.ndarray:
        return x + bias

    def scale_by_position(
        self, x: np.ndarray, positions: np.ndarray, factors: np.ndarray, stride: int
    ) -> np.ndarray:
        return x * factors[np.clip(positions // stride, 0, len(factors) - 1), None]

    def rope_angles(self, positions: np.ndarray, freqs: np.ndarray, mscale: float) -> np.ndarray:
        # In float64: a float32 product loses whole turns at long positions.
        angles = positions[:, None].astype(np.float64) * freqs.astype(np.float64)
        scale = float(np.float32(mscale))
        return np.stack([np.cos(angles) * scale, np.sin(angles) * scale], axis=-1).astype(np.float32)

    def rope(self, x: np.ndarray, angles: np.ndarray, interleaved: bool) -> np.ndarray:
        half = angles.shape[1]
        cos, sin = angles[:, None, :, 0], angles[:, None, :, 1]
        pairs = (
            (slice(0, 2 * half, 2), slice(1, 2 * half, 2))
            if interleaved
            else (slice(half), slice(half, 2 * half))
        )
        low, high = x[..., pairs[0]], x[..., pairs[1]]
        out = x.copy()
        out[..., pairs[0]], out[..., pairs[1]] = low * cos - high * sin, high * cos + low * sin
        return out

    def store_kv(self, k: np.ndarray, v: np.ndarray, cache: LayerCache, slots: np.ndarray) -> None:
        blocks, offsets = np.divmod(slots, cache.block_size)
        cache.k.put(blocks, offsets, k)
        cache.v.put(blocks, offsets, v)

    def rope_and_store(
        self,
        q: np.ndarray,
        k: np.ndarray,
        v: np.ndarray,
        rotation: Rotation,
        cache: LayerCache,
        slots: np.ndarray,
    ) -> np.ndarray:
        self.store_kv(self.rope(k, *rotation), v, cache, slots)
        return self.rope(q, *rotation)

    def attention(
        self,
        q: np.ndarray,
        cache: LayerCache,
        batch: AttentionBatch,
        scale: float,
        window: int | None = None,
    ) -> np.ndarray:
        out = np.empty_like(q)
        for i, context_len in enumerate(batch.context_lens):
            start, end = batch.query_start[i], batch.query_start[i + 1]
            n_blocks = -(-context_len // cache.block_size)
            blocks = batch.block_table[i, :n_blocks]
            k, v = (np.concatenate(values.take(blocks)) for values in (cache.k, cache.v))
            for token in range(start, end):
                visible = context_len - (end - 1 - token)
                begin = max(0, visible - window) if window is not None else 0
                out[token] = attend(q[token], k[:visible], v[:visible], scale, begin)
        return out

    def silu_mul(self, gate: np.ndarray, up: np.ndarray) -> np.ndarray:
        return silu_mul(gate, up)

    def gelu_mul(self, gate: np.ndarray, up: np.ndarray) -> np.ndarray:
        return gelu_mul(gate, up)

    def choose(self, logits: np.ndarray, choices: Choices) -> Chosen:
        return choice.choose(logits, choices)

    def fetch_chosen(self, chosen: Chosen, n_rows: int) -> Callable[[], ChosenTokens]:
        return lambda: on_host(chosen, n_rows)

    def pass_on(self, chosen: Chosen, rows: np.ndarray, token_ids: np.ndarray) -> None:
        choice.pass_on(chosen, rows, token_ids)
