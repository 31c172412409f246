"""Emulated machine code: what nvrtc.compile_cubin gives back, and the RawModule that loads it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kernels.cuda.nvrtc import Compiled
from support.cuda_emulator import EmulatedModule, build
from support.fake_cupy.arrays import MemoryPointer, ndarray
from support.fake_cupy.machine import INVALID_VALUE, CUDADriverError, CUDARuntimeError
from support.fake_cupy.streams import Operation, Stream, Timeline

_MAGIC = b"emulated cubin\n"
DEFAULT_DYNAMIC_SHARED = 48 << 10
#: Bytes of dynamic shared memory that a block may ask for, by capability (CUDA programming guide, table of limits).
MAX_DYNAMIC_SHARED = {
    (7, 5): 64 << 10,
    (8, 0): 163 << 10,
    (8, 6): 99 << 10,
    (8, 9): 99 << 10,
    (9, 0): 227 << 10,
    (12, 0): 99 << 10,
}


def compile_for_host(source: Path, defines: Sequence[str], arch: str) -> Compiled:
    """What stands in for nvrtc.compile_cubin."""
    content = {"arch": arch, "library": str(build(source, defines))}
    return Compiled(_MAGIC + json.dumps(content).encode(), "")


class RawModule:
    """As cupy.RawModule, of emulated machine code."""

    def __init__(self, timeline: Timeline, code: bytes | None, path: str | None) -> None:
        timeline.machine.check()
        binary = Path(path).read_bytes() if path is not None else code
        if not isinstance(binary, bytes) or not binary.startswith(_MAGIC):
            raise CUDADriverError("CUDA_ERROR_INVALID_IMAGE: device kernel image is invalid")
        content = json.loads(binary[len(_MAGIC) :])
        capability = divmod(int(content["arch"].removeprefix("sm_")), 10)
        if capability[0] != timeline.machine.capability[0] or capability > timeline.machine.capability:
            raise CUDADriverError("CUDA_ERROR_NO_BINARY_FOR_GPU: no kernel image is available for execution")
        self._timeline = timeline
        self._module = EmulatedModule(Path(content["library"]))

    def get_function(self, name: str) -> "Function":
        if not self._module.has(name):
            raise CUDADriverError(f"CUDA_ERROR_NOT_FOUND: named symbol not found ({name})")
        return Function(self._timeline, self._module, name)


class Function:
    """As cupy.RawKernel."""

    def __init__(self, timeline: Timeline, module: EmulatedModule, name: str) -> None:
        self._timeline, self._module, self.name = timeline, module, name
        self._max_shared = DEFAULT_DYNAMIC_SHARED

    @property
    def max_dynamic_shared_size_bytes(self) -> int:
        return self._max_shared

    @max_dynamic_shared_size_bytes.setter
    def max_dynamic_shared_size_bytes(self, n_bytes: int) -> None:
        capability = self._timeline.machine.capability
        if n_bytes > MAX_DYNAMIC_SHARED[capability]:
            raise CUDADriverError(
                f"CUDA_ERROR_INVALID_VALUE: {n_bytes} bytes of shared memory on {capability}"
            )
        self._max_shared = n_bytes

    def __call__(
        self,
        grid: Sequence[int],
        block: Sequence[int],
        args: Sequence[Any],
        *,
        shared_mem: int = 0,
        stream: Stream | None = None,
    ) -> None:
        if shared_mem > self._max_shared:
            raise CUDARuntimeError(
                INVALID_VALUE, f"{self.name}: {shared_mem} bytes of shared memory, {self._max_shared} set"
            )
        values = [argument_bytes(argument) for argument in args]

        def run() -> None:
            self._timeline.machine.launched.append(self.name)
            self._timeline.machine.clock += self._timeline.machine.kernel_seconds.get(self.name, 0.0)
            self._module.launch(self.name, grid, block, values, shared_mem)

        (stream or self._timeline.current).enqueue(Operation(run, tuple(args)))


def argument_bytes(argument: Any) -> bytes:
    """A kernel argument as CuPy passes it: arrays by address, Python numbers as 64 bits."""
    if isinstance(argument, ndarray):
        return np.uint64(argument.data.ptr).tobytes()
    if isinstance(argument, MemoryPointer):
        return np.uint64(argument.ptr).tobytes()
    if isinstance(argument, np.generic):
        return argument.tobytes()
    if isinstance(argument, (bool, int, float)):
        return np.asarray(argument).tobytes()
    raise TypeError(f"unsupported type {type(argument)}")
