"""Which slots of recurrent state are free and who owns the others. Plain bookkeeping, as the block pool.

A request holds a slot from its admission until it ends or is preempted. A slot is not cleared: a sequence begins
with a state of zeros whatever its slot holds.
"""

from collections.abc import Mapping


class SlotPool:
    """n_slots slots, handed out by number; none where the model keeps no state."""

    def __init__(self, n_slots: int) -> None:
        self.n_slots = n_slots
        self._free = list(range(n_slots - 1, -1, -1))
        self._owner: dict[int, str] = {}

    @property
    def n_free(self) -> int:
        return len(self._free)

    def take(self, owner: str) -> int | None:
        """A free slot, now the owner's; None where the model keeps no state. The caller has seen that one is free."""
        if self.n_slots == 0:
            return None
        slot = self._free.pop()
        self._owner[slot] = owner
        return slot

    def give_back(self, owner: str, slot: int | None) -> None:
        """The owner's slot is free again."""
        if slot is None:
            return
        holder = self._owner.pop(slot, None)
        assert holder == owner, f"state slot {slot} is given back by {owner!r}, held by {holder!r}"
        self._free.append(slot)

    def check_integrity(self, slots: Mapping[str, int]) -> None:
        """AssertionError unless every slot is free or held by exactly one owner, and none is missing."""
        held = {slot: owner for owner, slot in slots.items()}
        assert len(held) == len(slots), "a state slot has two owners"
        assert held == self._owner, "the requests' state slots and the pool's owners differ"
        assert set(self._free).isdisjoint(held), "a state slot is both free and owned"
        assert sorted([*self._free, *held]) == list(range(self.n_slots)), "a state slot leaked"
