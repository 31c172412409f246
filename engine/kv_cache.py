"""How many KV blocks the memory allows, and the cache itself.

--ctx-size is the longest single request, --kv-memory what all requests share. Without --kv-memory the pool is
as large as max_batch requests of ctx_size could use, but takes at most a quarter of the memory that is free
after loading; one whole request it holds always, or the start is refused.
"""

import math
import os
from dataclasses import dataclass
from pathlib import Path

from engine.errors import EspalierError, ResourceError
from engine.types import EngineConfig
from kernels.kv_type import head_bytes
from kernels.ops import LayerCache, Ops

DEFAULT_SHARE = 4  # the default pool takes at most one part in this many of the free memory
CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class KVShape:
    """What one token leaves in the cache: n_layer times a key and a value of n_head_kv * head_dim."""

    n_layer: int
    n_head_kv: int
    head_dim: int
    kv_type: str = "f16"

    def block_bytes(self, block_size: int) -> int:
        """Bytes of one block of block_size tokens over all layers."""
        return 2 * self.n_layer * block_size * self.n_head_kv * head_bytes(self.kv_type, self.head_dim)


@dataclass(frozen=True)
class KVCache:
    """The keys and values of every running sequence. Which block is whose, the block pool knows."""

    layers: list[LayerCache]
    n_blocks: int
    block_size: int  # tokens
    block_bytes: int  # over all layers

    @property
    def n_tokens(self) -> int:
        """Tokens it holds, all requests together."""
        return self.n_blocks * self.block_size

    @property
    def nbytes(self) -> int:
        return self.n_blocks * self.block_bytes


def new_kv_cache(ops: Ops, shape: KVShape, config: EngineConfig, ctx_size: int) -> KVCache:
    """A zeroed cache. Raises EspalierError for a type that the backend does not have, ResourceError where the memory
    cannot hold one request of ctx_size tokens."""
    if shape.kv_type not in ops.kv_types:
        raise EspalierError(
            f"--kv-type is {shape.kv_type!r}; the {ops.name} backend caches {' or '.join(ops.kv_types)}"
        )
    block_size = config.kv_block_size
    block_bytes = shape.block_bytes(block_size)
    device_bytes = ops.free_bytes()
    available = available_memory() if device_bytes is None else device_bytes
    n_blocks = plan_n_blocks(config, ctx_size, block_bytes, available)
    try:
        layers = ops.new_kv_cache(
            shape.n_layer, n_blocks, block_size, shape.n_head_kv, shape.head_dim, shape.kv_type
        )
    except ValueError as error:
        raise ResourceError(f"no KV cache for this model: {error}; --device cpu may have one") from error
    except MemoryError as error:
        size = format_bytes(n_blocks * block_bytes)
        raise ResourceError(f"no memory for a KV cache of {size}: lower --kv-memory or --ctx-size") from error
    return KVCache(layers, n_blocks, block_size, block_bytes)


def plan_n_blocks(config: EngineConfig, ctx_size: int, block_bytes: int, available: int) -> int:
    """Blocks of the pool. available: free memory, bytes. Raises ResourceError if one ctx_size is too much."""
    block_size = config.kv_block_size
    needed = -(-ctx_size // block_size)  # for one request
    useful = needed * config.max_batch
    if config.kv_memory_bytes is None:
        if needed * block_bytes > available:
            raise ResourceError(
                f"the KV cache for --ctx-size {ctx_size} takes {format_bytes(needed * block_bytes)}, "
                f"the machine has {format_bytes(available)} free: lower --ctx-size"
            )
        return max(needed, min(useful, available // DEFAULT_SHARE // block_bytes))
    n_blocks = config.kv_memory_bytes // block_bytes
    if n_blocks < needed:
        raise ResourceError(
            f"--kv-memory {format_bytes(config.kv_memory_bytes)} holds {n_blocks * block_size} tokens, "
            f"--ctx-size needs {ctx_size}: raise --kv-memory to {format_bytes(needed * block_bytes)} "
            f"or lower --ctx-size"
        )
    if config.kv_memory_bytes > available:
        raise ResourceError(
            f"--kv-memory {format_bytes(config.kv_memory_bytes)} is more than the {format_bytes(available)} "
            f"the machine has free"
        )
    return n_blocks


def available_memory() -> int:
    """Bytes this process may still take: what the machine has free, or its control group if that is less."""
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for line in _read(Path("/proc/meminfo")).splitlines():
        if line.startswith("MemAvailable:"):  # free pages and those the kernel would give up
            free = int(line.split()[1]) * 1024
    limit, used = _read(CGROUP / "memory.max"), _read(CGROUP / "memory.current")
    if limit.strip().isdigit() and used.strip().isdigit():
        free = min(free, max(int(limit) - int(used), 0))
    return free


def format_bytes(n: int) -> str:
    """In the largest binary unit that leaves one or more: 1.5 GiB. Rounded up: enough if asked for."""
    size, units = float(n), ["bytes", "KiB", "MiB", "GiB", "TiB"]
    while size >= 1024 and len(units) > 1:
        size, units = size / 1024, units[1:]
    return f"{n} bytes" if units[0] == "bytes" else f"{math.ceil(size * 10) / 10:.1f} {units[0]}"


def _read(path: Path) -> str:
    """The file's text; nothing where this system has no such file."""
    try:
        return path.read_text()
    except OSError:
        return ""
