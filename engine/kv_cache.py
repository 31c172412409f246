"""How much a model keeps of its requests, how many of them the memory allows, and the caches themselves.

--ctx-size is the longest single request, --kv-memory what all requests share. Without --kv-memory the pool is
as large as max_batch requests of ctx_size could use, but takes at most a quarter of the memory that is free
after loading; one whole request it holds always, or the start is refused.
A model with recurrent layers keeps a state of each running request too, of one size whatever its length: states
take at most half of that memory, and no more requests run at once than have a state.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from engine.errors import EspalierError, ResourceError
from engine.memory import advice, format_bytes, memory_for, room_text
from engine.types import EngineConfig
from kernels.batches import LayerCache
from kernels.cache_groups import CacheGroup, StateGroup
from kernels.ops import Ops
from kernels.process_limits import MemoryRoom

DEFAULT_SHARE = 4  # the default pool takes at most one part in this many of the free memory
STATE_SHARE = 2  # and states at most one part in this many of the pool


@dataclass(frozen=True)
class CacheShape:
    """What a model's groups of caches take in a type of cached keys and values."""

    groups: tuple[CacheGroup, ...]
    kv_type: str = "f16"

    def block_bytes(self, block_size: int) -> int:
        """Bytes of one block of block_size tokens over all layers."""
        blocks = [group for group in self.groups if not isinstance(group, StateGroup)]
        return block_size * sum(group.token_bytes(self.kv_type) for group in blocks)

    @property
    def slot_bytes(self) -> int:
        """Bytes of one request's recurrent state over all layers; 0 where the model has none."""
        return sum(group.slot_bytes for group in self.groups if isinstance(group, StateGroup))


class CachePlan(NamedTuple):
    """What the pool holds."""

    n_blocks: int
    n_slots: int = 0  # states of requests


@dataclass(frozen=True)
class KVCache:
    """The caches of every running sequence. Which block and which slot are whose, the scheduler's pools know."""

    groups: Sequence[Sequence[LayerCache]]  # in the order of the model's cache_groups, the layers of each
    n_blocks: int
    block_size: int  # tokens
    block_bytes: int  # over all layers
    n_slots: int = 0  # recurrent states; 0 where the model has none
    slot_bytes: int = 0  # over all layers

    @property
    def n_tokens(self) -> int:
        """Tokens it holds, all requests together."""
        return self.n_blocks * self.block_size

    @property
    def nbytes(self) -> int:
        return self.n_blocks * self.block_bytes + self.n_slots * self.slot_bytes


def new_kv_cache(ops: Ops, shape: CacheShape, config: EngineConfig, ctx_size: int, n_vocab: int) -> KVCache:
    """Zeroed caches, after the memory for the logits of max_batch sequences has been taken.

    Raises EspalierError for a type that the backend does not have, ResourceError where the memory cannot hold the
    logits and one request of ctx_size tokens.
    """
    if shape.kv_type not in ops.kv_types:
        raise EspalierError(
            f"--kv-type is {shape.kv_type!r}; the {ops.name} backend caches {' or '.join(ops.kv_types)}"
        )
    block_size = config.kv_block_size
    block_bytes, slot_bytes = shape.block_bytes(block_size), shape.slot_bytes
    outputs = ops.output_bytes(config.max_batch, n_vocab)
    room = _without(memory_for(ops), outputs, config.max_batch)
    plan = plan_cache(config, ctx_size, block_bytes, room, slot_bytes)
    try:
        ops.reserve_outputs(config.max_batch, n_vocab)
        groups = new_groups(ops, shape, plan, block_size)
    except ValueError as error:
        raise ResourceError(f"no KV cache for this model: {error}; --device cpu may have one") from error
    except MemoryError as error:
        size = format_bytes(plan.n_blocks * block_bytes + plan.n_slots * slot_bytes)
        raise ResourceError(f"no memory for a KV cache of {size}: lower --kv-memory or --ctx-size") from error
    return KVCache(groups, plan.n_blocks, block_size, block_bytes, plan.n_slots, slot_bytes)


def new_groups(ops: Ops, shape: CacheShape, plan: CachePlan, block_size: int) -> list[list[LayerCache]]:
    """Each group's layers. Raises ValueError as `Ops.new_cache`."""
    sizes = [plan.n_slots if isinstance(group, StateGroup) else plan.n_blocks for group in shape.groups]
    return [
        ops.new_cache(group, n, block_size, shape.kv_type)
        for group, n in zip(shape.groups, sizes, strict=True)
    ]


def _without(room: MemoryRoom, outputs: int, max_batch: int) -> MemoryRoom:
    """What is left beside the logits. Raises ResourceError where they do not fit."""
    if outputs > room.n_bytes:
        raise ResourceError(
            f"the logits of --max-batch {max_batch} take {format_bytes(outputs)}, {room_text(room)}: "
            f"{advice(room, 'lower --max-batch')}"
        )
    return room._replace(n_bytes=room.n_bytes - outputs)


def plan_cache(
    config: EngineConfig, ctx_size: int, block_bytes: int, room: MemoryRoom, slot_bytes: int = 0
) -> CachePlan:
    """Blocks and states within the free memory `room`. Raises ResourceError if one request is too much."""
    needed = -(-ctx_size // config.kv_block_size)  # blocks of one request
    least = needed * block_bytes + slot_bytes
    if config.kv_memory_bytes is None:
        _check_default(config, ctx_size, least, slot_bytes, room)
        n_slots = _plan_slots(config, room.n_bytes // DEFAULT_SHARE, least, slot_bytes)
        share = room.n_bytes // DEFAULT_SHARE - n_slots * slot_bytes
        return CachePlan(max(needed, min(needed * config.max_batch, share // block_bytes)), n_slots)
    _check_given(config, config.kv_memory_bytes, ctx_size, block_bytes, least, slot_bytes, room)
    n_slots = _plan_slots(config, config.kv_memory_bytes, least, slot_bytes)
    return CachePlan((config.kv_memory_bytes - n_slots * slot_bytes) // block_bytes, n_slots)


def _plan_slots(config: EngineConfig, pool_bytes: int, least: int, slot_bytes: int) -> int:
    """States of requests in a pool, of which one request takes `least` bytes."""
    if slot_bytes == 0:
        return 0
    beside_blocks = (pool_bytes - (least - slot_bytes)) // slot_bytes
    return max(1, min(config.max_batch, pool_bytes // STATE_SHARE // slot_bytes, beside_blocks))


def _check_default(
    config: EngineConfig, ctx_size: int, least: int, slot_bytes: int, room: MemoryRoom
) -> None:
    if least <= room.n_bytes:
        return
    state = f", {format_bytes(slot_bytes)} of it the recurrent state of one request" if slot_bytes else ""
    raise ResourceError(
        f"the KV cache for --ctx-size {ctx_size} takes {format_bytes(least)}{state}, "
        f"{room_text(room)}: {advice(room, 'lower --ctx-size')}"
    )


def _check_given(
    config: EngineConfig,
    given: int,
    ctx_size: int,
    block_bytes: int,
    least: int,
    slot_bytes: int,
    room: MemoryRoom,
) -> None:
    """given: --kv-memory, in bytes."""
    if given < least:
        n_tokens = max(given - slot_bytes, 0) // block_bytes * config.kv_block_size
        state = f", {format_bytes(slot_bytes)} of it for a request's state," if slot_bytes else ""
        raise ResourceError(
            f"--kv-memory {format_bytes(given)}{state} holds {n_tokens} tokens, "
            f"--ctx-size needs {ctx_size}: raise --kv-memory to {format_bytes(least)} "
            f"or lower --ctx-size"
        )
    if given > room.n_bytes:
        raise ResourceError(
            f"--kv-memory {format_bytes(given)} is more than there is: "
            f"{room_text(room)}: {advice(room, 'lower --kv-memory')}"
        )
