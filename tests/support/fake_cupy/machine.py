"""The emulated machine: what its driver and device say of themselves, its memory, and how it fails.

Everything a test may set is a field of `Machine`; nothing here is global.
"""

import time
import weakref
from dataclasses import dataclass, field

import numpy as np

from support.cuda_emulator import GuardedBuffer, KernelFault

ALLOCATION_UNIT = 512  # bytes; CuPy's pool rounds up to it
INVALID_VALUE, INSUFFICIENT_DRIVER, NO_DEVICE, INVALID_DEVICE = 1, 35, 100, 101
NOT_READY, ILLEGAL_ADDRESS, LAUNCH_FAILURE, CAPTURE_UNSUPPORTED = 600, 700, 719, 900
_WORDS = {
    INVALID_VALUE: "cudaErrorInvalidValue: invalid argument",
    INSUFFICIENT_DRIVER: "cudaErrorInsufficientDriver: CUDA driver version is insufficient for CUDA runtime version",
    NO_DEVICE: "cudaErrorNoDevice: no CUDA-capable device is detected",
    INVALID_DEVICE: "cudaErrorInvalidDevice: invalid device ordinal",
    NOT_READY: "cudaErrorNotReady: device not ready",
    ILLEGAL_ADDRESS: "cudaErrorIllegalAddress: an illegal memory access was encountered",
    LAUNCH_FAILURE: "cudaErrorLaunchFailure: unspecified launch failure",
    CAPTURE_UNSUPPORTED: "cudaErrorStreamCaptureUnsupported: operation not permitted when stream is capturing",
}


class CUDARuntimeError(RuntimeError):
    """As CuPy's: `status` is CUDA's number, the text its name and words; here with what went wrong behind it."""

    def __init__(self, status: int, detail: str = "") -> None:
        super().__init__(_WORDS[status] + (f" ({detail})" if detail else ""))
        self.status = status


class CUDADriverError(RuntimeError):
    """As CuPy's, for modules that do not load."""


class OutOfMemoryError(MemoryError):
    """As CuPy's."""

    def __init__(self, size: int, total: int, limit: int = 0) -> None:
        super().__init__(f"Out of memory allocating {size:,} bytes (allocated so far: {total:,} bytes).")


@dataclass
class Machine:
    """One emulated device, or none. Set fields before or while code runs on it."""

    capability: tuple[int, int] = (9, 0)
    name: str = "Emulated Device"
    n_devices: int = 1
    driver_version: int = 13000  # 0: no driver
    runtime_version: int = 13000
    total_memory: int = 1 << 30
    multiprocessors: int = 4
    l2_bytes: int = 1 << 20
    #: Run what is enqueued at once. Otherwise as late as possible: when somebody waits for it.
    eager: bool = False
    #: Seconds that a kernel takes by the machine's own clock, by name; others take none. Empty: there is no such
    #: clock, and CuPy says that it is emulated.
    kernel_seconds: dict[str, float] = field(default_factory=dict)

    allocated: int = field(default=0, init=False)  # bytes, rounded as the pool does
    peak: int = field(default=0, init=False)
    n_allocations: int = field(default=0, init=False)  # since the start
    n_bytes_downloaded: int = field(default=0, init=False)  # asked for, since the start
    capturing: bool = field(default=False, init=False)
    failure: CUDARuntimeError | None = field(default=None, init=False)
    launched: list[str] = field(default_factory=list, init=False)  # kernels, in the order they ran
    clock: float = field(default=0.0, init=False)  # seconds that kernels have taken
    _n_pending: int = field(default=0, init=False)
    _freed: list[GuardedBuffer] = field(default_factory=list, init=False)
    _buffers: "weakref.WeakValueDictionary[int, Allocation]" = field(
        default_factory=weakref.WeakValueDictionary, init=False
    )

    def now(self) -> float:
        """Seconds, for events."""
        return self.clock if self.kernel_seconds else time.perf_counter()

    def lose_device(self) -> None:
        """From now on every call fails, as after an error that a device does not recover from."""
        self.failure = CUDARuntimeError(LAUNCH_FAILURE)

    def check(self) -> None:
        """What every call of the runtime begins with. Raises CUDARuntimeError."""
        if self.driver_version < self.runtime_version:
            raise CUDARuntimeError(INSUFFICIENT_DRIVER)
        if self.n_devices == 0:
            raise CUDARuntimeError(NO_DEVICE)
        if self.failure is not None:
            raise self.failure

    def check_host_may_wait(self, what: str) -> None:
        """A capturing stream has run nothing, so there is nothing to wait for or to read."""
        self.check()
        if self.capturing:
            raise CUDARuntimeError(CAPTURE_UNSUPPORTED, what)

    def allocate(self, n_bytes: int) -> "Allocation":
        """Raises OutOfMemoryError, and CUDARuntimeError while a stream is capturing."""
        self.check_host_may_wait(f"an allocation of {n_bytes} bytes")
        size = -(-n_bytes // ALLOCATION_UNIT) * ALLOCATION_UNIT
        if self.allocated + size > self.total_memory:
            raise OutOfMemoryError(size, self.allocated)
        allocation = Allocation(self, GuardedBuffer(n_bytes), n_bytes, size)
        self.allocated += size
        self.peak = max(self.peak, self.allocated)
        self.n_allocations += 1
        self._buffers[allocation.pointer] = allocation
        return allocation

    def allocation_at(self, pointer: int, n_bytes: int) -> "Allocation | None":
        """The live allocation that holds the range; None where there is none."""
        for start, allocation in list(self._buffers.items()):
            if start <= pointer and pointer + n_bytes <= start + allocation.n_bytes:
                return allocation
        return None

    def bytes_at(self, pointer: int, n_bytes: int) -> np.ndarray:
        """The host's view of device memory. Raises KernelFault where it has been freed."""
        allocation = self.allocation_at(pointer, n_bytes)
        if allocation is None:
            raise KernelFault(f"a copy touches {n_bytes} bytes at {pointer:#x}, which are no live allocation")
        offset = pointer - allocation.pointer
        return allocation.array[offset : offset + n_bytes]

    def enqueued(self) -> None:
        """One more operation has yet to run."""
        self._n_pending += 1

    def finished(self) -> None:
        self._n_pending -= 1
        if self._n_pending == 0:
            self._freed.clear()

    def free(self, buffer: GuardedBuffer, size: int) -> None:
        """Stream-ordered, as CuPy's pool is: what is still enqueued may use the memory."""
        self.allocated -= size
        if self._n_pending:
            self._freed.append(buffer)


class Allocation:
    """Device memory, given back when nobody holds it."""

    def __init__(self, machine: Machine, buffer: GuardedBuffer, n_bytes: int, size: int) -> None:
        self._machine, self._buffer, self._size = machine, buffer, size
        self.n_bytes = n_bytes
        self.pointer = self._buffer.pointer
        self.array = self._buffer.array

    def __del__(self) -> None:
        self._machine.free(self._buffer, self._size)
