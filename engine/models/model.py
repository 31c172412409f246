"""What the engine asks of a model. Its weights lie in the model; requests, blocks and slots do not."""

from collections.abc import Sequence
from typing import Protocol

from engine.batch import Batch
from kernels.batches import Array, LayerCache
from kernels.cache_groups import CacheGroup
from kernels.ops import Ops


class Model(Protocol):
    """One network. It never sees a request, nor how its weights are stored."""

    def cache_groups(self) -> tuple[CacheGroup, ...]:
        """What it keeps of the tokens it has seen."""

    def forward(self, ops: Ops, batch: Batch, caches: Sequence[Sequence[LayerCache]]) -> Array:
        """Normed hidden states of the batch's `hidden_rows`: [n_rows, n_embd].

        caches[g]: the layers of cache_groups()[g], in order.
        """

    def logits(self, ops: Ops, hidden: Array) -> Array:
        """[n_rows, n_embd] -> [n_rows, n_vocab]; only rows someone reads reach the largest matrix."""
