"""Chunks become flat arrays: the vectorised builder against a token-by-token one."""

import numpy as np
import pytest

from engine.batch import Chunk, build_batch, build_decode_batch, padding


class HostOps:
    """The one op a batch needs."""

    def index_array(self, values: np.ndarray) -> np.ndarray:
        return np.asarray(values, np.int32)


def random_chunks(rng: np.random.Generator, block_size: int) -> list[Chunk]:
    chunks = []
    for _ in range(rng.integers(1, 6)):
        n_tokens, n_cached = int(rng.integers(1, 20)), int(rng.integers(0, 30))
        n_blocks = -(-(n_tokens + n_cached) // block_size) + int(rng.integers(0, 3))
        chunks.append(
            Chunk(
                token_ids=rng.integers(0, 99, n_tokens).tolist(),
                n_cached=n_cached,
                block_ids=rng.permutation(100)[:n_blocks].tolist(),
                want_rows=int(rng.integers(0, n_tokens + 1)),
            )
        )
    return chunks


@pytest.mark.parametrize("seed", range(20))
def test_every_token_gets_its_position_and_slot(seed):
    rng = np.random.default_rng(seed)
    block_size = int(rng.choice([1, 4, 32]))
    chunks = random_chunks(rng, block_size)
    batch = build_batch(chunks, block_size, HostOps())

    expected, rows = [], []
    for chunk in chunks:
        for i, token_id in enumerate(chunk.token_ids):
            position = chunk.n_cached + i
            block = chunk.block_ids[position // block_size]
            if i >= len(chunk.token_ids) - chunk.want_rows:
                rows.append(len(expected))
            expected.append((token_id, position, block * block_size + position % block_size))
    got = list(zip(batch.token_ids.tolist(), batch.positions.tolist(), batch.slots.tolist(), strict=True))
    assert got == expected
    assert batch.hidden_rows.tolist() == rows
    assert (batch.n_tokens, batch.n_rows) == (len(expected), len(rows))


def test_attention_arrays_say_where_each_sequence_is():
    chunks = [Chunk([5, 6, 7], 0, [9, 8]), Chunk([1], 4, [2, 0, 3])]
    attention = build_batch(chunks, 2, HostOps()).attention
    assert attention.query_start.tolist() == [0, 3, 4]
    assert attention.context_lens.tolist() == [3, 5]
    assert attention.block_table.tolist() == [[9, 8, -1], [2, 0, 3]]


@pytest.mark.parametrize(
    "chunk",
    [Chunk([], 0, [1]), Chunk([1, 2], 0, [1], want_rows=3), Chunk([1, 2, 3], 30, [1])],
    ids=["empty", "too many rows", "too few blocks"],
)
def test_a_chunk_that_cannot_be_is_our_bug(chunk):
    with pytest.raises(AssertionError):
        build_batch([chunk], 32, HostOps())


def test_a_decode_batch_is_the_general_one_with_a_wider_table() -> None:
    chunks = [Chunk([7], 0, [3]), Chunk([8], 5, [1, 0, 9])]
    chunks.append(padding(1, chunks[0]))
    general, fast = build_batch(chunks, 2, HostOps()), build_decode_batch(chunks, 2, HostOps(), 16)
    for name in ("token_ids", "positions", "slots", "hidden_rows"):
        got, expected = getattr(fast, name), getattr(general, name)
        np.testing.assert_array_equal(got, expected, err_msg=name)
        assert got.dtype == expected.dtype
    for got, expected in zip(fast.attention[:2], general.attention[:2], strict=True):
        np.testing.assert_array_equal(got, expected)
    table = fast.attention.block_table
    np.testing.assert_array_equal(table[:, :3], general.attention.block_table)
    assert (table[:, 3:] == -1).all()
    assert (fast.n_tokens, fast.n_rows) == (general.n_tokens, general.n_rows)
    assert fast.state is None is general.state


def test_a_pass_of_sequences_with_a_state_says_where_each_one_is() -> None:
    """Padding has no state, and both ways of building a decode batch agree."""
    chunks = [Chunk([7], 0, [3], state_slot=2), Chunk([8], 5, [1, 0, 9], state_slot=0)]
    chunks.append(padding(1, chunks[0]))
    for batch in (build_batch(chunks, 2, HostOps()), build_decode_batch(chunks, 2, HostOps(), 16)):
        assert batch.state is not None
        assert batch.state.slots.tolist() == [2, 0, -1]
        assert batch.state.slots.dtype == np.int32
        assert batch.state.context_lens.tolist() == [1, 6, 0]


def test_a_decode_batch_with_too_few_blocks_is_a_bug_found_at_once() -> None:
    with pytest.raises(AssertionError, match="too few KV blocks"):
        build_decode_batch([Chunk([7], 2, [3])], 2, HostOps(), 16)
