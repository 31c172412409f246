"""The emulation of CUDA kernels tests itself: operations against NumPy, and every mistake it says it catches."""

import numpy as np
import pytest

from support.cuda_emulator import (
    EMULATOR,
    HIGHEST_FIRST,
    LOWEST_FIRST,
    ORDERS,
    EmulatedModule,
    KernelFault,
    build,
    run_kernel,
    thread_order,
)

SELFTEST = EMULATOR / "selftest.cu"
LANES = np.arange(32)


@pytest.fixture(scope="module")
def selftest() -> EmulatedModule:
    return EmulatedModule(build(SELFTEST))


@pytest.fixture(params=ORDERS)
def order(request: pytest.FixtureRequest) -> int:
    return request.param


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng()


def s8(words: np.ndarray) -> np.ndarray:
    return words.view(np.int8).reshape(*words.shape, 4).astype(np.int64)


def u8(words: np.ndarray) -> np.ndarray:
    return words.view(np.uint8).reshape(*words.shape, 4).astype(np.int64)


def expected_warp_operations(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> list[np.ndarray]:
    """What `warp_operations` of selftest.cu writes, row by row, by CUDA's documentation."""
    eight_bytes = np.concatenate([u8(a), u8(b)], -1)
    both = b.astype(np.uint64) << np.uint64(32) | a.astype(np.uint64)
    shift = (c & 31).astype(np.uint64)
    unit = ((a & 0x7FFFFF) | 0x3F800000)[LANES ^ 1]
    same = np.ones(32, np.int64)
    return [
        a[b & 31],
        a[(LANES & ~7) + (b & 7)],
        a[LANES ^ 5],
        a[np.where(LANES >= 3, LANES - 3, LANES)],
        a[np.where(LANES % 16 + 3 < 16, LANES + 3, LANES) % 32],
        same * sum((int(x) & 1) << i for i, x in enumerate(a)),
        same,
        same,
        same * int(a.astype(np.uint64).sum()),
        same * int(a.max()),
        same * int(a.view(np.int32).min()),
        (s8(a) * s8(b)).sum(-1) + c,
        (u8(a) * s8(b)).sum(-1) + c,
        (u8(a) * u8(b)).sum(-1) + c,
        sum(eight_bytes[LANES, c >> 4 * i & 7] << 8 * i for i in range(4)),
        (both >> shift).astype(np.uint32),
        (both << shift >> np.uint64(32)).astype(np.uint32),
        unit,
        (a & 0xFFFF) + c,
        (a >> 16) + c,
    ]


def test_warp_operations_are_those_of_cuda(
    selftest: EmulatedModule, order: int, rng: np.random.Generator
) -> None:
    u = rng.integers(0, 1 << 32, (3, 32), dtype=np.uint32)
    out = np.zeros((20, 32), np.uint32)
    with thread_order(order):
        run_kernel(selftest, "warp_operations", (1,), (32,), u, out)
    for row, expected in enumerate(expected_warp_operations(*u)):
        np.testing.assert_array_equal(out[row], np.asarray(expected).astype(np.uint32), f"row {row}")


def fragments(a: np.ndarray, b: np.ndarray, per_register: int) -> tuple[np.ndarray, np.ndarray]:
    """A [16, k] and B [k, 8] as the registers of 32 lanes, by the figures of the PTX manual."""
    half = a.shape[1] // 2
    ra = np.empty((32, 4, per_register), a.dtype)
    rb = np.empty((32, 2, per_register), b.dtype)
    for lane in range(32):
        row, k = lane // 4, lane % 4 * per_register
        for register in range(4):
            start = k + half * (register // 2)
            ra[lane, register] = a[row + 8 * (register % 2), start : start + per_register]
        for register in range(2):
            start = k + half * register
            rb[lane, register] = b[start : start + per_register, row]
    return ra.view(np.uint32).reshape(32, 4), rb.view(np.uint32).reshape(32, 2)


def accumulators(d: np.ndarray) -> np.ndarray:
    """[16, 8] as the four registers of 32 lanes."""
    return np.array(
        [[d[lane // 4 + i // 2 * 8, lane % 4 * 2 + i % 2] for i in range(4)] for lane in range(32)]
    )


@pytest.mark.parametrize(("kernel", "dtype"), [("mma_unsigned", np.uint8), ("mma_signed", np.int8)])
def test_integer_tiles_multiply_exactly(
    selftest: EmulatedModule, rng: np.random.Generator, kernel: str, dtype: type
) -> None:
    info = np.iinfo(dtype)
    a = rng.integers(info.min, info.max + 1, (16, 32)).astype(dtype)
    b = rng.integers(-128, 128, (32, 8)).astype(np.int8)
    start = rng.integers(-1000, 1000, (16, 8)).astype(np.int32)
    d = np.ascontiguousarray(accumulators(start))
    run_kernel(selftest, kernel, (1,), (32,), *fragments(a, b, 4), d)
    np.testing.assert_array_equal(d, accumulators(start + a.astype(np.int32) @ b.astype(np.int32)))


def half_tile(
    selftest: EmulatedModule, rng: np.random.Generator, mistake: int
) -> tuple[np.ndarray, np.ndarray]:
    """(what the kernel wrote, the product in float64)"""
    a = rng.standard_normal((16, 16)).astype(np.float16)
    b = rng.standard_normal((16, 8)).astype(np.float16)
    out = np.zeros((16, 8), np.float32)
    run_kernel(selftest, "half_tile", (1,), (32,), a, b, out, np.int32(mistake))
    return out, a.astype(np.float64) @ b.astype(np.float64)


def test_pairs_of_halves_round_once(selftest: EmulatedModule, rng: np.random.Generator) -> None:
    """Against float64, which holds each of these sums exactly; NumPy rounds it to a half. Subnormals among them."""
    a, b, c = (rng.standard_normal((3, 2048)) * np.exp2(rng.integers(-12, 6, (3, 2048)))).astype(np.float16)
    out = np.zeros((3, 1024), np.uint32)
    run_kernel(
        selftest, "half_pairs", (1,), (32,), *(x.view(np.uint32) for x in (a, b, c)), out, np.int32(1024)
    )
    wide = [x.astype(np.float64) for x in (a, b, c)]
    exact = [wide[0] + wide[1], wide[0] * wide[1], wide[0] * wide[1] - wide[2]]
    for got, expected in zip(out.view(np.float16), exact, strict=True):
        np.testing.assert_array_equal(got, expected.astype(np.float16))


def test_copies_matrices_and_half_tiles_fit_together(
    selftest: EmulatedModule, order: int, rng: np.random.Generator
) -> None:
    """Products of halves are exact in float32; sixteen sums of values near 1 stay within 1e-5."""
    with thread_order(order):
        out, expected = half_tile(selftest, rng, mistake=0)
    np.testing.assert_allclose(out, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("mistake", [1, 2, 3])
def test_a_copy_arrives_at_its_wait_and_not_before(
    selftest: EmulatedModule, rng: np.random.Generator, mistake: int
) -> None:
    """No wait, no commit, a wait that leaves one group too many: the tile is NaN instead of right by luck."""
    out, _ = half_tile(selftest, rng, mistake)
    assert np.isnan(out).all()


@pytest.mark.parametrize("block", [(32,), (64, 2), (1024,), (32, 4, 8)])
def test_atomics_shuffles_and_barriers_sum_any_grid(
    selftest: EmulatedModule, order: int, rng: np.random.Generator, block: tuple[int, ...]
) -> None:
    x = rng.integers(0, 1000, 700).astype(np.int32)
    counts, sums = np.zeros(16, np.int32), np.zeros(1, np.int32)
    with thread_order(order):
        run_kernel(selftest, "histogram", (3,), block[:2], x, counts, sums, np.int32(x.size))
    np.testing.assert_array_equal(counts, np.bincount(x % 16, minlength=16))
    assert sums[0] == x.sum()


def test_named_barriers_hand_over_between_warps(selftest: EmulatedModule, order: int) -> None:
    out = np.zeros((5, 32), np.int32)
    with thread_order(order):
        run_kernel(selftest, "producer_consumer", (1,), (64,), out, np.int32(5))
    np.testing.assert_array_equal(out, np.arange(160).reshape(5, 32)[:, ::-1])


@pytest.mark.parametrize("odd", [0, 1, 63, 64])
def test_votes_count_the_block(selftest: EmulatedModule, odd: int) -> None:
    x = (np.arange(64) < odd).astype(np.int32)
    out = np.zeros(3, np.int32)
    run_kernel(selftest, "votes", (1,), (64,), x, out)
    assert out.tolist() == [odd, odd > 0, odd == 64]


def test_halves_round_as_numpy_rounds_them(selftest: EmulatedModule, rng: np.random.Generator) -> None:
    """Every half, the midpoints between neighbours and what lies beside them, subnormals and overflow too."""
    halves = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    finite = np.sort(halves[np.isfinite(halves)].astype(np.float32))
    middles = (finite[:-1] + finite[1:]) / 2
    special = np.array([0, -0.0, np.inf, -np.inf, 65519.9, 65520, 1e30, 2**-25, 2**-26, 1e-40], np.float32)
    x = np.concatenate([finite, middles, np.nextafter(middles, np.float32(np.inf)), special])
    x = np.resize(np.concatenate([x, rng.standard_normal(100).astype(np.float32)]), -(-x.size // 64) * 64)
    half, back, pairs = np.zeros(x.size, np.uint16), np.zeros(x.size, np.float32), np.zeros(x.size, np.uint32)
    run_kernel(selftest, "to_halves", (x.size // 64,), (64,), x, half, back, pairs)
    with np.errstate(over="ignore"):
        expected = x.astype(np.float16)
    np.testing.assert_array_equal(half, expected.view(np.uint16))
    np.testing.assert_array_equal(back, expected.astype(np.float32))
    neighbours = half[np.arange(x.size) ^ 1].astype(np.uint32)
    np.testing.assert_array_equal(pairs, half | neighbours << 16)


MISTAKES = {
    "barrier_missed": r"not all threads arrive: threads 5, 40 exited; threads 0-4, 6-39, 41-63 wait in block_sync",
    "barriers_differ": r"the block diverges: block_sync at selftest.cu:\d+, but thread 0 waits in block_sync",
    "shuffle_missed": r"threads 0-31, 35 exited; threads 32-34, 36-63 wait in shfl_xor at selftest.cu",
    "warp_operations_differ": r"the warp diverges: warp_sync .*, but thread 0 waits in shfl_xor",
    "named_barrier_missed": r"threads 32-63 exited; threads 0-31 wait in named_sync",
    "read_past_buffer": r"thread \(63,0,0\): access to byte 256 of a buffer of 256 bytes",
    "write_before_buffer": r"a write to byte -4 of a buffer of 256 bytes",
    "write_past_dynamic_shared": r"thread \(32,0,0\): access to byte 128 of a dynamic shared memory of 128",
    "null_pointer": r"thread \(0,0,0\): an access to memory that is none of its buffers",
    "stack_overflow": r"its stack of 131072 bytes overflows",
    "misaligned_copy": r"thread \(1,0,0\): cp_async at selftest.cu:\d+: not aligned to 8 bytes",
}


@pytest.mark.parametrize("kernel", MISTAKES)
def test_a_mistake_is_reported_with_its_place(selftest: EmulatedModule, kernel: str) -> None:
    with pytest.raises(KernelFault, match=MISTAKES[kernel]) as caught:
        run_kernel(selftest, kernel, (1,), (64,), np.zeros(64, np.float32), shared_bytes=128)
    assert str(caught.value).startswith(f"{kernel} block (0,0,0)") or "a write to" in str(caught.value)


def test_after_a_mistake_kernels_run_as_before(selftest: EmulatedModule, rng: np.random.Generator) -> None:
    for kernel in ("null_pointer", "barrier_missed", "stack_overflow"):
        with pytest.raises(KernelFault):
            run_kernel(selftest, kernel, (1,), (64,), np.zeros(64, np.float32))
        test_votes_count_the_block(selftest, 5)


def test_a_forgotten_barrier_gives_another_result_in_another_order(selftest: EmulatedModule) -> None:
    results = []
    for order in (LOWEST_FIRST, HIGHEST_FIRST):
        x = np.zeros(64, np.float32)
        with thread_order(order):
            run_kernel(selftest, "barrier_forgotten", (1,), (64,), x)
        results.append(x)
    assert not np.array_equal(results[0], results[1])
    assert all(np.isnan(x).any() for x in results)


def test_shared_memory_holds_nothing_of_use_before_it_is_written(selftest: EmulatedModule) -> None:
    """Dynamic and static, in the second block too, after the first has written there."""
    x = np.full(64, 12345.0, np.float32)
    run_kernel(selftest, "shared_unwritten", (1,), (64,), x, shared_bytes=256)
    np.testing.assert_array_equal(x, 1)
    run_kernel(selftest, "shared_unwritten", (2,), (64,), x, shared_bytes=256)
    assert np.isnan(x).all()


def test_dividing_by_zero_is_a_mistake(selftest: EmulatedModule) -> None:
    with pytest.raises(KernelFault, match="division by zero"):
        run_kernel(selftest, "divide", (1,), (64,), np.ones(64, np.int32), np.int32(0))


@pytest.mark.parametrize(
    ("grid", "block", "arguments", "message"),
    [
        ((1,), (48,), [b"\0" * 8], "no whole warps"),
        ((1,), (96,), [b"\0" * 8], "compiled for at most 64 threads"),
        ((1,), (0,), [b"\0" * 8], "a block of"),
        ((0,), (32,), [b"\0" * 8], "a grid of"),
        ((1, 65536), (32,), [b"\0" * 8], "a grid of"),
        ((1,), (32,), [b"\0" * 4], "argument 0 is of 8 bytes, not 4"),
        ((1,), (32,), [b"\0" * 8, b"\0"], "takes 1 arguments, not 2"),
    ],
)
def test_a_launch_that_a_device_refuses_is_refused(
    selftest: EmulatedModule,
    grid: tuple[int, ...],
    block: tuple[int, ...],
    arguments: list[bytes],
    message: str,
) -> None:
    with pytest.raises(KernelFault, match=message):
        selftest.launch("barrier_missed", grid, block, arguments)
    with pytest.raises(KernelFault, match="no kernel nothing"):
        selftest.launch("nothing", (1,), (32,), [])
