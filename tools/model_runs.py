"""Forward passes without the engine's scheduler, for tools that need logits or bare speed."""

from collections.abc import Sequence

import numpy as np

from engine.batch import Chunk
from engine.errors import ResourceError
from engine.forward import ForwardPass
from engine.kv_cache import CachePlan, CacheShape, new_groups
from engine.loading import LoadedModel
from engine.memory import advice, format_bytes, memory_for, room_text

BLOCK_SIZE = 32


class SequenceRuns:
    """n_seqs sequences of up to n_tokens each, with a cache of their own; `run` continues them all at once."""

    def __init__(self, loaded: LoadedModel, n_seqs: int, n_tokens: int, kv_type: str = "f16") -> None:
        """Raises ResourceError for a cache that the memory cannot hold."""
        self._blocks = -(-n_tokens // BLOCK_SIZE)
        shape = CacheShape(loaded.model.cache_groups(), kv_type)
        n_bytes = n_seqs * (self._blocks * shape.block_bytes(BLOCK_SIZE) + shape.slot_bytes)
        room = memory_for(loaded.ops)
        if n_bytes > room.n_bytes:
            raise ResourceError(
                f"the KV cache of this run takes {format_bytes(n_bytes)}, {room_text(room)}: "
                f"{advice(room, 'measure fewer tokens at once')}"
            )
        caches = new_groups(loaded.ops, shape, CachePlan(n_seqs * self._blocks, n_seqs), BLOCK_SIZE)
        self._forward = ForwardPass(loaded.model, loaded.ops, caches, BLOCK_SIZE)
        self._has_state = shape.slot_bytes > 0

    def run(self, token_ids: Sequence[Sequence[int]], n_cached: int, want_rows: int) -> np.ndarray:
        """The next tokens of sequences 0, 1, ...; logits of each one's last want_rows > 0, [rows, n_vocab].

        The array is the backend's; it lasts until the next run.
        """
        chunks = [
            Chunk(ids, n_cached, self._blocks_of(i), want_rows, i if self._has_state else None)
            for i, ids in enumerate(token_ids)
        ]
        logits = self._forward.run(chunks)
        assert logits is not None, "no rows wanted"
        return logits

    def _blocks_of(self, i: int) -> range:
        return range(i * self._blocks, (i + 1) * self._blocks)
