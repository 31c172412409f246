"""As much of CuPy as kernels/cuda uses, over emulated kernels and guarded host memory.

`installed(machine)` makes `import cupy` find it and `nvrtc.compile_cubin` build for the host; see machine.py for what
a test can set, streams.py for when things run.
"""

import os
import sys
import tempfile
import types
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from kernels.cuda import nvrtc
from support.fake_cupy import arrays as array_types
from support.fake_cupy.arrays import Arrays
from support.fake_cupy.machine import (
    INVALID_DEVICE,
    CUDADriverError,
    CUDARuntimeError,
    Machine,
    OutOfMemoryError,
)
from support.fake_cupy.modules import MAX_DYNAMIC_SHARED, RawModule, compile_for_host
from support.fake_cupy.streams import Graph, Stream, Timeline

__all__ = ["CUDADriverError", "CUDARuntimeError", "Machine", "OutOfMemoryError", "installed"]


HOST_COMPILER = (0, 0)  # what the emulation gives as NVRTC's version: libnvrtc need not be there


@contextmanager
def installed(machine: Machine) -> Iterator[types.ModuleType]:
    """Within it `import cupy` gives an emulated CuPy on `machine`; compiled kernels are cached in a folder of
    its own, where no real device will look for machine code.
    """
    cupy = _cupy(machine)
    modules = {
        "cupy": cupy,
        "cupy.cuda": cupy.cuda,
        "cupy.cuda.runtime": cupy.cuda.runtime,
        "cupy.cuda.memory": cupy.cuda.memory,
        "cupy.cuda.driver": cupy.cuda.driver,
    }
    with (
        tempfile.TemporaryDirectory() as cache,
        mock.patch.dict(os.environ, ESPALIER_CACHE=cache),
        _importable(modules),
        mock.patch.object(nvrtc, "compile_cubin", compile_for_host),
        mock.patch.object(nvrtc, "version", return_value=HOST_COMPILER),
    ):
        yield cupy


@contextmanager
def _importable(modules: dict[str, types.ModuleType]) -> Iterator[None]:
    """Not mock.patch.dict, which would also forget what is imported for the first time within."""
    before = {name: sys.modules.get(name) for name in modules}
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


def _module(name: str, **content: Any) -> types.ModuleType:
    module = types.ModuleType(name)
    vars(module).update(content)
    return module


def _cupy(machine: Machine) -> types.ModuleType:
    timeline = Timeline(machine)
    arrays = Arrays(timeline)
    return _module(
        "cupy",
        is_emulated=not machine.kernel_seconds,
        ndarray=array_types.ndarray,
        empty=arrays.empty,
        zeros=arrays.zeros,
        asarray=arrays.asarray,
        array=arrays.asarray,
        asnumpy=arrays.asnumpy,
        RawModule=lambda *, code=None, path=None: RawModule(timeline, code, path),
        cuda=_cuda(machine, timeline, arrays),
    )


def _cuda(machine: Machine, timeline: Timeline, arrays: Arrays) -> types.ModuleType:
    def new_stream(null: bool = False, non_blocking: bool = False) -> Stream:
        return timeline.new_stream(null, non_blocking)

    new_stream.null = timeline.null  # type: ignore[attr-defined]  # cupy.cuda.Stream.null
    return _module(
        "cupy.cuda",
        Stream=new_stream,
        Event=timeline.new_event,
        Graph=Graph,
        Device=lambda device=None: Device(machine, timeline, device or 0),
        MemoryPointer=array_types.MemoryPointer,
        get_current_stream=lambda: timeline.current,
        get_elapsed_time=timeline.elapsed_ms,
        alloc_pinned_memory=arrays.pinned,
        is_available=lambda: machine.n_devices > 0 and machine.driver_version >= machine.runtime_version,
        runtime=_runtime(machine, timeline, arrays),
        memory=_module("cupy.cuda.memory", OutOfMemoryError=OutOfMemoryError),
        driver=_module("cupy.cuda.driver", CUDADriverError=CUDADriverError),
    )


class Device:
    """As cupy.cuda.Device."""

    def __init__(self, machine: Machine, timeline: Timeline, device: int) -> None:
        if device >= machine.n_devices > 0:
            raise CUDARuntimeError(INVALID_DEVICE)
        self._machine, self._timeline, self.id = machine, timeline, device

    @property
    def compute_capability(self) -> str:
        self._machine.check()
        return "{}{}".format(*self._machine.capability)

    @property
    def mem_info(self) -> tuple[int, int]:
        self._machine.check()
        return self._machine.total_memory - self._machine.allocated, self._machine.total_memory

    def use(self) -> "Device":
        self._machine.check()
        return self

    def synchronize(self) -> None:
        self._timeline.synchronize()

    def __enter__(self) -> "Device":
        return self.use()

    def __exit__(self, *error: object) -> None:
        """One device: nothing to go back to."""


def _runtime(machine: Machine, timeline: Timeline, arrays: Arrays) -> types.ModuleType:
    def device_count() -> int:
        machine.check()
        return machine.n_devices

    def properties(device: int) -> dict[str, Any]:
        Device(machine, timeline, device).use()
        return {
            "name": machine.name.encode(),
            "major": machine.capability[0],
            "minor": machine.capability[1],
            "multiProcessorCount": machine.multiprocessors,
            "totalGlobalMem": machine.total_memory,
            "sharedMemPerBlockOptin": MAX_DYNAMIC_SHARED[machine.capability],
            "l2CacheSize": machine.l2_bytes,
        }

    def set_device(device: int) -> None:
        Device(machine, timeline, device).use()

    def copy(to: int, source: int, size: int, kind: int, stream: int) -> None:
        machine.check()
        arrays.copy(to, source, size, kind, timeline.stream_of(stream))

    def memset(pointer: int, value: int, size: int, stream: int) -> None:
        machine.check()
        arrays.memset(pointer, value, size, timeline.stream_of(stream))

    return _module(
        "cupy.cuda.runtime",
        CUDARuntimeError=CUDARuntimeError,
        driverGetVersion=lambda: machine.driver_version,
        runtimeGetVersion=lambda: machine.runtime_version,
        getDeviceCount=device_count,
        getDeviceProperties=properties,
        getDevice=lambda: 0,
        setDevice=set_device,
        deviceSynchronize=timeline.synchronize,
        streamSynchronize=lambda stream: timeline.stream_of(stream).synchronize(),
        memGetInfo=lambda: Device(machine, timeline, 0).mem_info,
        memcpyAsync=copy,
        memsetAsync=memset,
        memcpyHostToDevice=array_types.HOST_TO_DEVICE,
        memcpyDeviceToHost=array_types.DEVICE_TO_HOST,
        memcpyDeviceToDevice=array_types.DEVICE_TO_DEVICE,
        streamCaptureModeGlobal=0,
        streamCaptureModeThreadLocal=1,
        streamCaptureModeRelaxed=2,
    )
