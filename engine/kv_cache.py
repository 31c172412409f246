"""How many KV blocks the memory allows, and the cache itself.

--ctx-size is the longest single request, --kv-memory what all requests share. Without --kv-memory the pool is
as large as max_batch requests of ctx_size could use, but takes at most a quarter of the memory that is free
after loading; one whole request it holds always, or the start is refused.
"""

from dataclasses import dataclass

from engine.errors import EspalierError, ResourceError
from engine.memory import advice, format_bytes, memory_for, room_text
from engine.types import EngineConfig
from kernels.kv_type import head_bytes
from kernels.ops import LayerCache, Ops
from kernels.process_limits import MemoryRoom

DEFAULT_SHARE = 4  # the default pool takes at most one part in this many of the free memory


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


def new_kv_cache(ops: Ops, shape: KVShape, config: EngineConfig, ctx_size: int, n_vocab: int) -> KVCache:
    """A zeroed cache, after the memory for the logits of max_batch sequences has been taken.

    Raises EspalierError for a type that the backend does not have, ResourceError where the memory cannot hold the
    logits and one request of ctx_size tokens.
    """
    if shape.kv_type not in ops.kv_types:
        raise EspalierError(
            f"--kv-type is {shape.kv_type!r}; the {ops.name} backend caches {' or '.join(ops.kv_types)}"
        )
    block_size = config.kv_block_size
    block_bytes = shape.block_bytes(block_size)
    outputs = ops.output_bytes(config.max_batch, n_vocab)
    n_blocks = plan_n_blocks(
        config, ctx_size, block_bytes, _without(memory_for(ops), outputs, config.max_batch)
    )
    try:
        ops.reserve_outputs(config.max_batch, n_vocab)
        layers = ops.new_kv_cache(
            shape.n_layer, n_blocks, block_size, shape.n_head_kv, shape.head_dim, shape.kv_type
        )
    except ValueError as error:
        raise ResourceError(f"no KV cache for this model: {error}; --device cpu may have one") from error
    except MemoryError as error:
        size = format_bytes(n_blocks * block_bytes)
        raise ResourceError(f"no memory for a KV cache of {size}: lower --kv-memory or --ctx-size") from error
    return KVCache(layers, n_blocks, block_size, block_bytes)


def _without(room: MemoryRoom, outputs: int, max_batch: int) -> MemoryRoom:
    """What is left beside the logits. Raises ResourceError where they do not fit."""
    if outputs > room.n_bytes:
        raise ResourceError(
            f"the logits of --max-batch {max_batch} take {format_bytes(outputs)}, {room_text(room)}: "
            f"{advice(room, 'lower --max-batch')}"
        )
    return room._replace(n_bytes=room.n_bytes - outputs)


def plan_n_blocks(config: EngineConfig, ctx_size: int, block_bytes: int, room: MemoryRoom) -> int:
    """Blocks of the pool within the free memory `room`. Raises ResourceError if one ctx_size is too much."""
    block_size = config.kv_block_size
    needed = -(-ctx_size // block_size)  # for one request
    useful = needed * config.max_batch
    if config.kv_memory_bytes is None:
        if needed * block_bytes > room.n_bytes:
            raise ResourceError(
                f"the KV cache for --ctx-size {ctx_size} takes {format_bytes(needed * block_bytes)}, "
                f"{room_text(room)}: {advice(room, 'lower --ctx-size')}"
            )
        return max(needed, min(useful, room.n_bytes // DEFAULT_SHARE // block_bytes))
    n_blocks = config.kv_memory_bytes // block_bytes
    if n_blocks < needed:
        raise ResourceError(
            f"--kv-memory {format_bytes(config.kv_memory_bytes)} holds {n_blocks * block_size} tokens, "
            f"--ctx-size needs {ctx_size}: raise --kv-memory to {format_bytes(needed * block_bytes)} "
            f"or lower --ctx-size"
        )
    if config.kv_memory_bytes > room.n_bytes:
        raise ResourceError(
            f"--kv-memory {format_bytes(config.kv_memory_bytes)} is more than there is: "
            f"{room_text(room)}: {advice(room, 'lower --kv-memory')}"
        )
    return n_blocks
