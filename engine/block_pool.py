"""Which KV blocks are free and who owns the others. Plain bookkeeping: no arrays, no tokens.

Every block is in exactly one state, free or owned by one request. A prefix cache will add the third, cached,
and a count of owners; until then a block with two owners is a bug that `check_integrity` reports.
"""

from collections.abc import Mapping, Sequence


class BlockPool:
    """n_blocks blocks of block_size tokens each, handed out by number."""

    def __init__(self, n_blocks: int, block_size: int) -> None:
        assert n_blocks > 0, "a pool without blocks"
        assert block_size > 0, "blocks without tokens"
        self.n_blocks = n_blocks
        self.block_size = block_size
        self._free = list(range(n_blocks - 1, -1, -1))  # a stack: what was freed last is warm in the caches
        self._owner: dict[int, str] = {}

    @property
    def n_free(self) -> int:
        return len(self._free)

    def blocks_for(self, n_tokens: int) -> int:
        """Blocks that hold n_tokens."""
        return -(-n_tokens // self.block_size)

    def take(self, owner: str, n: int) -> list[int]:
        """n free blocks, now the owner's. The caller has seen to it that there are as many."""
        assert 0 <= n <= self.n_free, f"{n} blocks asked of {self.n_free} free ones"
        block_ids = [self._free.pop() for _ in range(n)]
        self._owner.update((block_id, owner) for block_id in block_ids)
        return block_ids

    def give_back(self, owner: str, block_ids: Sequence[int]) -> None:
        """The owner's blocks are free again."""
        for block_id in block_ids:
            holder = self._owner.pop(block_id, None)
            assert holder == owner, f"block {block_id} is given back by {owner!r}, held by {holder!r}"
            self._free.append(block_id)

    def check_integrity(self, tables: Mapping[str, Sequence[int]]) -> None:
        """AssertionError unless every block is free or in exactly one owner's table, and none is missing."""
        held = {block_id: owner for owner, table in tables.items() for block_id in table}
        n_held = sum(len(table) for table in tables.values())
        assert n_held == len(held), "a KV block stands in two tables, or twice in one"
        assert held == self._owner, "the requests' block tables and the pool's owners differ"
        assert len(set(self._free)) == self.n_free, "a KV block is free twice"
        assert held.keys().isdisjoint(self._free), "a KV block is both free and owned"
        assert n_held + self.n_free == self.n_blocks, (
            f"{self.n_blocks - n_held - self.n_free} KV blocks leaked"
        )
        assert all(0 <= b < self.n_blocks for b in (*self._free, *held)), "a KV block from outside the pool"
