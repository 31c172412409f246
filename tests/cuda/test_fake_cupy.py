"""The emulated CuPy tests itself: memory, streams, graphs and failures do what CUDA's documentation says."""

import sys
import types
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from kernels.cuda import nvrtc
from support.cuda_emulator import EMULATOR
from support.fake_cupy import CUDADriverError, CUDARuntimeError, Machine, OutOfMemoryError, installed

BLOCK = (32,)


@pytest.fixture(params=[False, True], ids=["late", "eager"])
def machine(request: pytest.FixtureRequest) -> Machine:
    return Machine(eager=request.param)


@pytest.fixture
def late() -> Machine:
    return Machine()


@pytest.fixture
def cupy(machine: Machine) -> Iterator[types.ModuleType]:
    with installed(machine):
        import cupy

        yield cupy


@pytest.fixture
def late_cupy(late: Machine) -> Iterator[types.ModuleType]:
    with installed(late):
        import cupy

        yield cupy


def kernel(cupy: Any, name: str, arch: str = "sm_90") -> Any:
    compiled = nvrtc.compile_cubin(EMULATOR / "arithmetic.cu", (), arch)
    return cupy.RawModule(code=compiled.cubin).get_function(name)


def axpy_arguments(cupy: Any, n: int) -> tuple[Any, ...]:
    x, y = cupy.asarray(np.arange(n, dtype=np.float32)), cupy.zeros(n, np.float32)
    return np.float32(2), x, y, np.int32(n)


def test_a_kernel_runs_on_device_arrays(cupy: Any, machine: Machine) -> None:
    arguments = axpy_arguments(cupy, 50)
    kernel(cupy, "axpy")((2,), BLOCK, arguments)
    np.testing.assert_array_equal(cupy.asnumpy(arguments[2]), 2 * np.arange(50))
    assert machine.launched == ["axpy"]


def test_a_wrong_argument_size_is_an_error_where_a_device_would_read_on(late_cupy: Any) -> None:
    _, x, y, n = axpy_arguments(late_cupy, 50)
    kernel(late_cupy, "axpy")((2,), BLOCK, (2.0, x, y, n))
    with pytest.raises(CUDARuntimeError, match="argument 0 is of 4 bytes, not 8"):
        y.get()


def test_views_share_memory_and_new_memory_is_nan(cupy: Any) -> None:
    a = cupy.empty((4, 8), np.float32)
    assert np.isnan(a.get()).all()
    a[1:3].fill(7)
    b = a.reshape(-1)[8:16].view(np.int32)
    np.testing.assert_array_equal(b.get(), np.full(8, np.float32(7)).view(np.int32))
    assert b.data.ptr == a.data.ptr + 32
    with pytest.raises(TypeError, match="get"):
        np.asarray(a)
    with pytest.raises(NotImplementedError, match="contiguous"):
        a[:, ::2]


def test_memory_is_counted_and_runs_out(cupy: Any, machine: Machine) -> None:
    machine.total_memory = 4096
    a = cupy.empty(1000, np.uint8)
    assert cupy.cuda.runtime.memGetInfo() == (3072, 4096)
    with pytest.raises(OutOfMemoryError, match="3,584 bytes"):
        cupy.empty(3500, np.uint8)
    del a
    cupy.empty(3500, np.uint8)
    assert (machine.allocated, machine.peak, machine.n_allocations) == (0, 3584, 2)


def test_the_host_reads_old_data_until_it_waits(late_cupy: Any) -> None:
    stream = late_cupy.cuda.Stream(non_blocking=True)
    pinned = late_cupy.cuda.alloc_pinned_memory(4)
    host = np.frombuffer(pinned, np.int32, 1)
    with stream:
        counter = late_cupy.zeros(1, np.int32)
        kernel(late_cupy, "count")((1,), BLOCK, (counter,))
    late_cupy.cuda.runtime.memcpyAsync(pinned.ptr, counter.data.ptr, 4, 2, stream.ptr)
    assert host[0] == -1
    stream.synchronize()
    assert host[0] == 1


def test_a_pinned_buffer_overwritten_too_early_uploads_the_new_bytes(cupy: Any, machine: Machine) -> None:
    """Late shows it, eager does not; pageable memory is safe either way."""
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        from_pinned, from_pageable = cupy.empty(1, np.int32), cupy.empty(1, np.int32)
    pinned = cupy.cuda.alloc_pinned_memory(4)
    host, pageable = np.frombuffer(pinned, np.int32, 1), np.array([1], np.int32)
    host[0] = 1
    cupy.cuda.runtime.memcpyAsync(from_pinned.data.ptr, pinned.ptr, 4, 1, stream.ptr)
    cupy.cuda.runtime.memcpyAsync(from_pageable.data.ptr, pageable.ctypes.data, 4, 1, stream.ptr)
    host[0] = pageable[0] = 2
    assert from_pinned.get(stream)[0] == (1 if machine.eager else 2)
    assert from_pageable.get(stream)[0] == 1


def test_a_later_step_overwrites_what_the_host_has_yet_to_read(cupy: Any, machine: Machine) -> None:
    """Eager shows it: the first step's event is waited for, and the buffer already holds the second step."""
    stream, count = cupy.cuda.Stream(non_blocking=True), kernel(cupy, "count")
    pinned = cupy.cuda.alloc_pinned_memory(4)
    events = []
    with stream:
        counter = cupy.zeros(1, np.int32)
        for _ in range(2):
            count((1,), BLOCK, (counter,))
            cupy.cuda.runtime.memcpyAsync(pinned.ptr, counter.data.ptr, 4, 2, stream.ptr)
            events.append(stream.record())
    events[0].synchronize()
    assert np.frombuffer(pinned, np.int32, 1)[0] == (2 if machine.eager else 1)


def test_streams_do_not_wait_for_each_other_unless_told(late_cupy: Any, late: Machine) -> None:
    first, second = (late_cupy.cuda.Stream(non_blocking=True) for _ in range(2))
    with first:
        counter = late_cupy.zeros(1, np.int32)
        filled = first.record()
    count = kernel(late_cupy, "count")
    count((1,), BLOCK, (counter,), stream=second)
    assert counter.get(second)[0] == 0  # -1 and one more: the zero had not been written
    second.wait_event(filled)
    count((1,), BLOCK, (counter,), stream=second)
    assert counter.get(second)[0] == 1
    assert filled.done
    late_cupy.zeros(1, np.int32)
    late_cupy.cuda.Stream(non_blocking=False).synchronize()  # runs the null stream's work too
    assert late_cupy.cuda.Stream.null.done
    assert late.launched == ["count", "count"]


def test_a_graph_runs_what_was_captured_each_time_it_is_launched(cupy: Any, machine: Machine) -> None:
    stream, count = cupy.cuda.Stream(non_blocking=True), kernel(cupy, "count")
    with stream:
        counter = cupy.zeros(1, np.int32)
        stream.begin_capture()
        for _ in range(3):
            count((1,), BLOCK, (counter,))
        graph = stream.end_capture()
    assert counter.get(stream)[0] == 0
    for _ in range(2):
        graph.launch(stream)
    assert counter.get(stream)[0] == 6
    assert machine.launched == ["count"] * 6


def test_capturing_allows_neither_allocations_nor_waiting_nor_pageable_copies(cupy: Any) -> None:
    stream = cupy.cuda.Stream(non_blocking=True)
    a, event = cupy.zeros(1, np.int32), cupy.cuda.Event()
    stream.begin_capture()
    forbidden = (
        lambda: cupy.empty(1),
        a.get,
        lambda: a.get(stream),
        lambda: a.set(np.zeros(1, np.int32), stream),
        stream.synchronize,
        event.synchronize,
        cupy.cuda.runtime.deviceSynchronize,
        lambda: stream.record(event),
        stream.begin_capture,
    )
    for call in forbidden:
        with pytest.raises(CUDARuntimeError, match="capturing"):
            call()
    stream.end_capture()
    a.get()


def test_a_graph_over_freed_memory_is_a_fault(late_cupy: Any) -> None:
    stream, count = late_cupy.cuda.Stream(non_blocking=True), kernel(late_cupy, "count")
    with stream:
        counter = late_cupy.zeros(1, np.int32)
        stream.synchronize()
        stream.begin_capture()
        count((1,), BLOCK, (np.uint64(counter.data.ptr),))
        graph = stream.end_capture()
        graph.launch()
        del counter  # the launch that is enqueued may still use it
        stream.synchronize()
        graph.launch()
        with pytest.raises(
            CUDARuntimeError, match=r"IllegalAddress.*access to byte 0 of a freed buffer of 4 bytes"
        ):
            stream.synchronize()
    with pytest.raises(CUDARuntimeError, match="IllegalAddress"):
        late_cupy.empty(1)


def test_a_copy_out_of_bounds_is_refused(cupy: Any) -> None:
    a, host = cupy.zeros(4, np.uint8), np.zeros(8, np.uint8)
    with pytest.raises(CUDARuntimeError, match="InvalidValue"):
        cupy.cuda.runtime.memcpyAsync(a.data.ptr, host.ctypes.data, 8, 1, 0)


def test_machine_code_of_another_architecture_does_not_load(cupy: Any, machine: Machine) -> None:
    machine.capability = (8, 9)
    kernel(cupy, "axpy", "sm_80")
    for arch in ("sm_90", "sm_120"):
        with pytest.raises(CUDADriverError, match="no kernel image"):
            kernel(cupy, "axpy", arch)
    with pytest.raises(CUDADriverError, match="symbol not found"):
        kernel(cupy, "nothing", "sm_89")
    with pytest.raises(CUDADriverError, match="invalid"):
        cupy.RawModule(code=b"\x7fELF")


def test_shared_memory_beyond_48_kib_must_be_asked_for(cupy: Any) -> None:
    count, counter = kernel(cupy, "count"), cupy.zeros(1, np.int32)
    with pytest.raises(CUDARuntimeError, match="bytes of shared memory"):
        count((1,), BLOCK, (counter,), shared_mem=100 << 10)
    with pytest.raises(CUDADriverError, match="shared memory"):
        count.max_dynamic_shared_size_bytes = 228 << 10
    count.max_dynamic_shared_size_bytes = 100 << 10
    count((1,), BLOCK, (counter,), shared_mem=100 << 10)
    assert counter.get()[0] == 1


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"driver_version": 0}, "driver version is insufficient"),
        ({"driver_version": 12080}, "driver version is insufficient"),
        ({"n_devices": 0}, "no CUDA-capable device"),
    ],
)
def test_a_machine_without_a_usable_device_says_so(settings: dict[str, int], words: str) -> None:
    with installed(Machine(**settings)):
        import cupy

        assert not cupy.cuda.is_available()
        with pytest.raises(CUDARuntimeError, match=words):
            cupy.cuda.runtime.getDeviceCount()


def test_a_lost_device_fails_every_call(cupy: Any, machine: Machine) -> None:
    a, stream = cupy.zeros(1, np.int32), cupy.cuda.Stream()
    machine.lose_device()
    for call in (a.get, stream.synchronize, lambda: cupy.empty(1), cupy.cuda.runtime.memGetInfo):
        with pytest.raises(CUDARuntimeError, match="LaunchFailure"):
            call()


def test_the_device_describes_itself(cupy: Any, machine: Machine) -> None:
    machine.capability, machine.name = (12, 0), "Some Card"
    assert cupy.cuda.Device(0).compute_capability == "120"
    properties = cupy.cuda.runtime.getDeviceProperties(0)
    assert (properties["name"], properties["major"], properties["minor"]) == (b"Some Card", 12, 0)
    with pytest.raises(CUDARuntimeError, match="ordinal"):
        cupy.cuda.Device(1)
    start, end = cupy.cuda.Event(), cupy.cuda.Event()
    start.record()
    end.record()
    end.synchronize()
    assert cupy.cuda.get_elapsed_time(start, end) >= 0


def test_only_cupy_comes_and_goes_with_the_emulation() -> None:
    sys.modules.pop("colorsys", None)
    with installed(Machine()):
        import colorsys
    assert "cupy" not in sys.modules
    assert sys.modules["colorsys"] is colorsys
