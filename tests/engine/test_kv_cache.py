"""The KV pool: as large as is useful, a quarter of free memory at most, one whole request at least."""

import pytest

from engine.errors import EspalierError, ResourceError
from engine.kv_cache import CachePlan, CacheShape, new_kv_cache, plan_cache
from engine.memory import format_bytes
from engine.types import EngineConfig
from kernels.cache_groups import LatentGroup, PagedGroup, StateGroup
from kernels.process_limits import MemoryRoom
from support.fake_model import FakeOps

BLOCK = 1000  # bytes
LOTS = 10**12
SMALL = CacheShape((PagedGroup(n_layer=3, n_head_kv=2, head_dim=4),))


def plan(ctx_size: int, available: int = LOTS, **config) -> int:
    return plan_cache(EngineConfig(max_batch=4, **config), ctx_size, BLOCK, MemoryRoom(available)).n_blocks


def test_a_block_holds_keys_and_values_of_every_layer_in_f16():
    assert CacheShape((PagedGroup(n_layer=32, n_head_kv=8, head_dim=128),)).block_bytes(32) == 4 * 2**20


def test_q8_0_takes_a_scale_of_two_bytes_for_32_values():
    assert CacheShape((PagedGroup(32, 8, 128),), "q8_0").block_bytes(32) == 2 * 32 * 32 * 8 * (128 + 4 * 2)
    assert CacheShape((PagedGroup(1, 1, 80),), "q8_0").block_bytes(1) == 2 * (80 + 3 * 2)


def test_a_type_that_the_backend_does_not_cache_is_refused_in_one_line():
    config = EngineConfig(kv_memory_bytes=10_000)
    with pytest.raises(EspalierError, match=r"--kv-type is 'q8_0'; the fake backend caches f16"):
        new_kv_cache(FakeOps(), CacheShape((PagedGroup(3, 2, 4),), "q8_0"), config, ctx_size=32, n_vocab=10)


def test_with_memory_to_spare_every_sequence_of_a_batch_gets_its_context():
    assert plan(ctx_size=100) == 4 * 4  # four blocks of 32 tokens each


def test_the_default_takes_a_quarter_of_free_memory():
    assert plan(ctx_size=100, available=40 * BLOCK) == 10


def test_the_default_holds_one_whole_request_at_least():
    assert plan(ctx_size=100, available=5 * BLOCK) == 4


def test_a_context_beyond_free_memory_is_refused():
    with pytest.raises(ResourceError, match=r"--ctx-size 100 takes 4.0 KiB.*3.0 KiB free: lower --ctx-size"):
        plan(ctx_size=100, available=3 * BLOCK)


def test_kv_memory_is_taken_at_its_word():
    assert plan(ctx_size=100, kv_memory_bytes=7 * BLOCK + 999) == 7


def test_kv_memory_for_less_than_one_request_is_refused_with_both_numbers():
    with pytest.raises(ResourceError) as caught:
        plan(ctx_size=100, kv_memory_bytes=3 * BLOCK)
    assert str(caught.value) == (
        "--kv-memory 3.0 KiB holds 96 tokens, --ctx-size needs 100: "
        "raise --kv-memory to 4.0 KiB or lower --ctx-size"
    )


def test_kv_memory_beyond_what_is_free_is_refused():
    with pytest.raises(
        ResourceError, match=r"--kv-memory 9\.8 KiB is more .* has 7\.9 KiB free: lower --kv-memory"
    ):
        plan(ctx_size=100, available=8 * BLOCK, kv_memory_bytes=10 * BLOCK)


def test_the_cache_knows_what_it_holds():
    config = EngineConfig(kv_memory_bytes=10_000, kv_block_size=16)
    kv = new_kv_cache(
        FakeOps(),
        SMALL,
        config,
        ctx_size=90,
        n_vocab=10,
    )
    assert kv.block_bytes == 3 * 2 * 16 * 2 * 4 * 2
    assert (kv.n_blocks, kv.n_tokens, kv.nbytes) == (6, 6 * 16, 6 * kv.block_bytes)
    assert [len(layers) for layers in kv.groups] == [3]


QWEN35_27B = (PagedGroup(16, 4, 256), StateGroup(48, 10240, 4, 48, 128, 128))


def test_a_state_is_as_large_for_any_number_of_tokens():
    """Qwen3.5 27B: 144 MiB of matrices and 5.6 of inputs of its convolutions for each request, 64 KiB a token."""
    shape = CacheShape(QWEN35_27B)
    assert shape.slot_bytes == 144 * 2**20 + 48 * 3 * 10240 * 4
    assert shape.block_bytes(1) == 64 * 2**10


def test_a_latent_row_is_stored_once():
    """DeepSeek V3 in f16: 576 numbers for 61 layers, about 69 KiB a token."""
    assert CacheShape((LatentGroup(61, 576, 512),)).block_bytes(1) == 61 * 576 * 2


SLOT = 2500


def plan_with_states(ctx_size: int, available: int = LOTS, **config) -> CachePlan:
    config = EngineConfig(max_batch=4, **config)
    return plan_cache(config, ctx_size, BLOCK, MemoryRoom(available), SLOT)


def test_with_memory_to_spare_every_sequence_of_a_batch_gets_a_state():
    assert plan_with_states(ctx_size=100) == (4 * 4, 4)


def test_states_take_half_of_the_pool_at_most_and_one_is_always_there():
    assert plan_with_states(ctx_size=100, kv_memory_bytes=15 * BLOCK) == (7, 3)
    assert plan_with_states(ctx_size=100, kv_memory_bytes=7 * BLOCK) == (4, 1)
    assert plan_with_states(ctx_size=100, available=7 * BLOCK) == (4, 1)


def test_a_request_keeps_its_blocks_where_states_would_take_them():
    """Half of the pool would hold two states; the blocks of one request leave room for one."""
    assert plan_with_states(ctx_size=200, kv_memory_bytes=10 * BLOCK) == (7, 1)


def test_too_little_for_the_state_of_one_request_is_one_line_with_what_would_do():
    with pytest.raises(
        ResourceError, match=r"takes 6\.4 KiB, 2\.5 KiB of it the recurrent state of one request"
    ):
        plan_with_states(ctx_size=100, available=6 * BLOCK)
    with pytest.raises(ResourceError) as caught:
        plan_with_states(ctx_size=100, kv_memory_bytes=6 * BLOCK)
    assert str(caught.value) == (
        "--kv-memory 5.9 KiB, 2.5 KiB of it for a request's state, holds 96 tokens, --ctx-size needs 100: "
        "raise --kv-memory to 6.4 KiB or lower --ctx-size"
    )


def test_an_allocation_that_fails_is_one_clear_line():
    class FullOps(FakeOps):
        def new_cache(self, *group):
            raise MemoryError

    with pytest.raises(ResourceError, match=r"no memory for a KV cache of 9\.0 KiB: lower --kv-memory"):
        new_kv_cache(
            FullOps(),
            SMALL,
            EngineConfig(kv_memory_bytes=10_000),
            ctx_size=32,
            n_vocab=10,
        )


@pytest.mark.parametrize("kv_memory_bytes", [None, 10 * BLOCK])
def test_the_limit_that_leaves_too_little_is_named(kv_memory_bytes):
    """A container's or a unit's limit is what its operator can raise."""
    config = EngineConfig(max_batch=4, kv_memory_bytes=kv_memory_bytes)
    with pytest.raises(ResourceError) as caught:
        plan_cache(config, 200, BLOCK, MemoryRoom(3 * BLOCK, "/sys/fs/cgroup/box/memory.max", 5 * 2**20))
    assert "/sys/fs/cgroup/box/memory.max is 5.0 MiB, which leaves 3.0 KiB free: lower" in str(caught.value)
    assert str(caught.value).endswith(", or raise that limit")


@pytest.mark.parametrize(
    ("n", "text"),
    [
        (0, "0 bytes"),
        (1023, "1023 bytes"),
        (1536, "1.5 KiB"),
        (3 * 2**30 + 1, "3.1 GiB"),
        (2**52, "4096.0 TiB"),
    ],
)
def test_sizes_are_written_as_people_read_them(n, text):
    assert format_bytes(n) == text
