"""Blocks are free or owned, never both, never twice, never lost."""

import pytest

from engine.block_pool import BlockPool


@pytest.fixture
def pool() -> BlockPool:
    return BlockPool(n_blocks=6, block_size=4)


def test_blocks_for_rounds_up(pool):
    assert [pool.blocks_for(n) for n in (0, 1, 4, 5, 24)] == [0, 1, 1, 2, 6]


def test_taken_blocks_are_distinct_and_come_back(pool):
    a, b = pool.take("a", 4), pool.take("b", 2)
    assert sorted(a + b) == list(range(6))
    assert pool.n_free == 0
    pool.give_back("a", a)
    assert pool.n_free == 4
    pool.check_integrity({"b": b})


def test_more_than_is_free_is_our_bug(pool):
    with pytest.raises(AssertionError, match="7 blocks asked of 6"):
        pool.take("a", 7)


@pytest.mark.parametrize("thief", ["b", "nobody"])
def test_only_the_owner_gives_a_block_back(pool, thief):
    block_ids = pool.take("a", 1)
    with pytest.raises(AssertionError, match="held by 'a'"):
        pool.give_back(thief, block_ids)


def test_giving_back_twice_is_found(pool):
    block_ids = pool.take("a", 1)
    pool.give_back("a", block_ids)
    with pytest.raises(AssertionError, match="held by None"):
        pool.give_back("a", block_ids)


@pytest.mark.parametrize(
    ("tables", "found"),
    [
        (lambda a, b: {"a": a}, "differ"),
        (lambda a, b: {"a": a, "b": [*b, a[0]]}, "two tables"),
        (lambda a, b: {"a": [*a, a[0]], "b": b}, "twice"),
        (lambda a, b: {"a": b, "b": a}, "differ"),
    ],
    ids=["a table is missing", "shared", "repeated", "swapped"],
)
def test_integrity_finds_wrong_tables(pool, tables, found):
    a, b = pool.take("a", 2), pool.take("b", 1)
    pool.check_integrity({"a": a, "b": b})
    with pytest.raises(AssertionError, match=found):
        pool.check_integrity(tables(a, b))


def test_integrity_finds_a_leak(pool):
    pool.take("a", 1)
    pool._owner.clear()
    with pytest.raises(AssertionError, match="1 KV blocks leaked"):
        pool.check_integrity({})


def test_integrity_finds_a_block_that_is_free_twice(pool):
    pool._free.append(pool._free[0])
    with pytest.raises(AssertionError, match="a KV block is free twice"):
        pool.check_integrity({})


def test_integrity_finds_a_block_that_is_free_and_owned(pool):
    a = pool.take("a", 1)
    pool._free[0] = a[0]  # as many as before, so that counting alone would not find it
    with pytest.raises(AssertionError, match="both free and owned"):
        pool.check_integrity({"a": a})


@pytest.mark.parametrize("block_id", [-1, 6])
def test_integrity_finds_a_block_from_outside_the_pool(pool, block_id):
    pool._free[0] = block_id
    with pytest.raises(AssertionError, match="outside the pool"):
        pool.check_integrity({})


def test_integrity_finds_an_owned_block_from_outside_the_pool(pool):
    (block_id,) = pool.take("a", 1)
    pool._owner = {6: "a"}
    with pytest.raises(AssertionError, match="outside the pool"):
        pool.check_integrity({"a": [block_id + 6]})
