"""Device arrays, pinned memory and the copies between them and the host."""

import ctypes
import math
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from support.fake_cupy.machine import CAPTURE_UNSUPPORTED, INVALID_VALUE, Allocation, CUDARuntimeError
from support.fake_cupy.streams import Operation, Stream, Timeline

HOST_TO_DEVICE, DEVICE_TO_HOST, DEVICE_TO_DEVICE = 1, 2, 3


class MemoryPointer:
    """As cupy.cuda.MemoryPointer: `ptr` and what keeps it alive."""

    def __init__(self, memory: Allocation, offset: int) -> None:
        self.mem = memory
        self.ptr = memory.pointer + offset


class ndarray:
    """The part of cupy.ndarray that the backend uses: a typed, contiguous window on device memory."""

    def __init__(self, arrays: "Arrays", memory: Allocation, host: np.ndarray) -> None:
        self._arrays, self._memory, self._host = arrays, memory, host
        self.shape, self.dtype, self.size, self.nbytes = host.shape, host.dtype, host.size, host.nbytes
        self.ndim, self.itemsize = host.ndim, host.itemsize
        self.data = MemoryPointer(memory, host.ctypes.data - memory.pointer)

    def __len__(self) -> int:
        return len(self._host)

    def __array__(self, *args: object, **kwargs: object) -> np.ndarray:
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()`")

    def _view(self, host: np.ndarray) -> "ndarray":
        if host.base is None:
            raise NotImplementedError("the emulated array has contiguous windows only")
        return ndarray(self._arrays, self._memory, host)

    def __getitem__(self, index: Any) -> "ndarray":
        window = self._host[index]
        if not isinstance(window, np.ndarray) or not window.flags.c_contiguous:
            raise NotImplementedError(f"the emulated array has no index {index!r}: contiguous windows only")
        return self._view(window)

    def reshape(self, *shape: Any) -> "ndarray":
        return self._view(self._host.reshape(*shape))

    def ravel(self) -> "ndarray":
        return self.reshape(-1)

    def view(self, dtype: Any) -> "ndarray":
        return self._view(self._host.view(dtype))

    def fill(self, value: Any) -> None:
        pattern = np.full(self.shape, value, self.dtype).reshape(-1).view(np.uint8)
        self._arrays.write(self.data.ptr, pattern)

    def set(self, values: np.ndarray, stream: Stream | None = None) -> None:
        if values.shape != self.shape or values.dtype != self.dtype:
            raise ValueError(f"{values.dtype}{values.shape} does not fit {self.dtype}{self.shape}")
        source = np.ascontiguousarray(values)
        self._arrays.copy(self.data.ptr, source.ctypes.data, self.nbytes, HOST_TO_DEVICE, stream)

    def get(
        self, stream: Stream | None = None, out: np.ndarray | None = None, blocking: bool = True
    ) -> np.ndarray:
        result = np.empty(self.shape, self.dtype) if out is None else out
        stream = stream or self._arrays.timeline.current
        self._arrays.copy(result.ctypes.data, self.data.ptr, self.nbytes, DEVICE_TO_HOST, stream)
        if blocking:
            stream.synchronize()
        return result


class Arrays:
    """Makes and copies the arrays of one machine."""

    def __init__(self, timeline: Timeline) -> None:
        self.timeline = timeline
        self._pinned: list[tuple[int, int, weakref.ref[Any]]] = []  # address, bytes, whose

    def empty(self, shape: Any, dtype: Any = float, order: str = "C") -> ndarray:
        shape = (shape,) if isinstance(shape, (int, np.integer)) else tuple(shape)
        dtype = np.dtype(dtype)
        memory = self.timeline.machine.allocate(math.prod(shape) * dtype.itemsize)
        return ndarray(self, memory, memory.array.view(dtype).reshape(shape))

    def zeros(self, shape: Any, dtype: Any = float, order: str = "C") -> ndarray:
        array = self.empty(shape, dtype)
        array.fill(0)
        return array

    def asarray(self, values: Any, dtype: Any = None) -> ndarray:
        if isinstance(values, ndarray):
            return values
        source = np.asarray(values, dtype)
        array = self.empty(source.shape, source.dtype)
        array.set(source)
        return array

    def asnumpy(self, array: ndarray, stream: Stream | None = None, **options: Any) -> np.ndarray:
        return array.get(stream, **options)

    def pinned(self, n_bytes: int) -> Any:
        """As cupy.cuda.alloc_pinned_memory: a buffer with `ptr`. Holds garbage at first."""
        self.timeline.machine.check()
        memory = type("PinnedMemoryPointer", (ctypes.c_uint8 * n_bytes,), {})()
        memory.ptr = ctypes.addressof(memory)
        ctypes.memset(memory, 0xFF, n_bytes)
        self._pinned = [entry for entry in self._pinned if entry[2]() is not None]
        self._pinned.append((memory.ptr, n_bytes, weakref.ref(memory)))
        return memory

    def copy(self, to: int, source: int, n_bytes: int, kind: int, stream: Stream | None = None) -> None:
        """cudaMemcpyAsync. Pageable host memory is read at once, and written before the call returns."""
        stream = stream or self.timeline.current
        if kind == DEVICE_TO_HOST:
            self.timeline.machine.n_bytes_downloaded += n_bytes
        target = self._side(to, n_bytes, on_device=kind != DEVICE_TO_HOST)
        origin = self._side(source, n_bytes, on_device=kind != HOST_TO_DEVICE)
        pageable = target.pageable or origin.pageable
        if pageable and stream.is_capturing():
            raise CUDARuntimeError(CAPTURE_UNSUPPORTED, "a copy between the device and pageable memory")
        if origin.pageable:
            return self.write(to, origin.view().copy(), stream)

        def run() -> None:
            target.view()[:] = origin.view()

        stream.enqueue(Operation(run, (target.owner, origin.owner)))
        if pageable:
            stream.synchronize()

    def write(self, to: int, values: np.ndarray, stream: Stream | None = None) -> None:
        """These bytes, to device memory."""
        target = self._side(to, values.size, on_device=True)

        def run() -> None:
            target.view()[:] = values

        (stream or self.timeline.current).enqueue(Operation(run, (target.owner,)))

    def memset(self, pointer: int, value: int, n_bytes: int, stream: Stream | None = None) -> None:
        """cudaMemsetAsync."""
        self.write(pointer, np.full(n_bytes, value, np.uint8), stream)

    def _side(self, pointer: int, n_bytes: int, on_device: bool) -> "Side":
        if not on_device:
            owner = self._pinned_owner(pointer, n_bytes)
            host = np.frombuffer((ctypes.c_uint8 * n_bytes).from_address(pointer), np.uint8)
            return Side(lambda: host, owner, pageable=owner is None)
        machine = self.timeline.machine
        allocation = machine.allocation_at(pointer, n_bytes)
        if allocation is None:
            raise CUDARuntimeError(
                INVALID_VALUE, f"{n_bytes} bytes at {pointer:#x} are not in one allocation"
            )
        return Side(lambda: machine.bytes_at(pointer, n_bytes), allocation, pageable=False)

    def _pinned_owner(self, pointer: int, n_bytes: int) -> Any:
        """The pinned memory that holds the range, or None."""
        for start, size, reference in self._pinned:
            if start <= pointer and pointer + n_bytes <= start + size:
                return reference()
        return None


class Side(NamedTuple):
    """One side of a copy. `view` is looked up when the copy runs: a graph may run after its memory has gone."""

    view: Callable[[], np.ndarray]
    owner: Any
    pageable: bool
