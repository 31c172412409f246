"""One GPU through CuPy: opened and checked, its memory, its stream, and launches by kernel name.

Nothing here is global: another device is another `Device`.
"""

import importlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kernels.cuda.compile import MODULES, CubinCache
from kernels.cuda.errors import CudaError, CudaMemoryError, CupyMissingError

#: The oldest cards whose int8 tensor cores and asynchronous copies the kernels use.
OLDEST_CAPABILITY = (8, 0)


class Launch(NamedTuple):
    """One launch as it was asked for; `Device.launch(*it)` is the same again, while its memory is there."""

    module: str
    kernel: str
    grid: tuple[int, ...]
    block: int
    arguments: tuple[np.generic, ...]


class Device:
    """Raises CudaError, one line, where there is no CuPy, no driver, no card of that index or too old a card."""

    def __init__(self, index: int = 0) -> None:
        self._cupy = _import_cupy()
        runtime = self._cupy.cuda.runtime
        try:
            n_devices = runtime.getDeviceCount()
        except runtime.CUDARuntimeError as error:
            raise CudaError(_no_driver(error)) from error
        if not 0 <= index < n_devices:
            raise CudaError(f"there is no GPU {index}; this machine has {n_devices}")
        self.index = index
        self._device = self._cupy.cuda.Device(index)
        properties = runtime.getDeviceProperties(index)
        self.name: str = properties["name"].decode()
        capability = (properties["major"], properties["minor"])
        if capability < OLDEST_CAPABILITY:
            raise CudaError(
                f"{self.name} has compute capability {capability[0]}.{capability[1]}; "
                "the kernels need 8.0 or newer (Ampere)"
            )
        self.n_multiprocessors: int = properties["multiProcessorCount"]
        self.l2_bytes: int = properties["l2CacheSize"]
        #: The tests' stand-in, which has no speed: what it is timed at is nowhere shown.
        self.emulated: bool = getattr(self._cupy, "is_emulated", False)
        self._cubins = CubinCache(f"sm_{capability[0]}{capability[1]}")
        with self._device:
            self._stream = self._cupy.cuda.Stream(non_blocking=True)
        self._cubin_paths: dict[str, Path] = {}
        self._kernels: dict[tuple[str, str], Any] = {}
        self._log: list[Launch] | None = None
        self.capturing = False  # work is recorded
        self._leaves_out = False  # work is left out

    @property
    def holds_back(self) -> bool:
        """What it is given now does not run now."""
        return self.capturing or self._leaves_out

    @contextmanager
    def held_back(self) -> Iterator[None]:
        """Work that it is given within is left out: a pass takes its memory and does nothing."""
        self._leaves_out = True
        try:
            yield
        finally:
            self._leaves_out = False

    def use(self) -> None:
        """Make it the calling thread's device: a step may run on another thread than the load."""
        self._device.use()

    # Memory

    def allocate(self, n_bytes: int) -> "DeviceBuffer":
        """Uninitialized memory. Raises CudaMemoryError."""
        try:
            with self._device:
                return DeviceBuffer(self._cupy.empty(max(n_bytes, 1), np.uint8), n_bytes)
        except self._cupy.cuda.memory.OutOfMemoryError:
            raise CudaMemoryError(
                f"{self.name} has {_mib(self.free_bytes())} of memory free, {_mib(n_bytes)} more are needed"
            ) from None

    def pinned(self, n_bytes: int) -> np.ndarray:
        """uint8 [n_bytes] of host memory that copies to and from the device need no detour for."""
        return np.frombuffer(self._cupy.cuda.alloc_pinned_memory(max(n_bytes, 1)), np.uint8, n_bytes)

    def free_bytes(self) -> int:
        with self._device:
            return int(self._cupy.cuda.runtime.memGetInfo()[0])

    # The stream: the device does everything below in the order of the calls; only `synchronize` waits for it.

    def upload(self, to: int, values: np.ndarray) -> None:
        """values contiguous; they must not change before the copy has run."""
        if self._leaves_out:
            return
        runtime = self._cupy.cuda.runtime
        runtime.memcpyAsync(
            to, values.ctypes.data, values.nbytes, runtime.memcpyHostToDevice, self._stream.ptr
        )

    def download(self, to: np.ndarray, source: int) -> None:
        if self._leaves_out:
            return
        runtime = self._cupy.cuda.runtime
        runtime.memcpyAsync(to.ctypes.data, source, to.nbytes, runtime.memcpyDeviceToHost, self._stream.ptr)

    def copy(self, to: int, source: int, n_bytes: int) -> None:
        """Within the device."""
        if self._leaves_out:
            return
        runtime = self._cupy.cuda.runtime
        runtime.memcpyAsync(to, source, n_bytes, runtime.memcpyDeviceToDevice, self._stream.ptr)

    def clear(self, to: int, n_bytes: int) -> None:
        if not self._leaves_out:
            self._cupy.cuda.runtime.memsetAsync(to, 0, n_bytes, self._stream.ptr)

    def launch(
        self, module: str, kernel: str, grid: Sequence[int], block: int, arguments: Sequence[np.generic]
    ) -> None:
        """arguments: NumPy scalars of the kernel's own types, pointers as uint64."""
        launch = Launch(module, kernel, tuple(grid), block, tuple(arguments))
        if self._log is not None:
            self._log.append(launch)
        self.start(launch)

    def start(self, launch: Launch) -> None:
        """The same as `launch` without the log, for kernels that are no part of a pass."""
        kernel = self._kernel(launch.module, launch.kernel)
        if not self._leaves_out:
            kernel(launch.grid, (launch.block,), launch.arguments, stream=self._stream)

    def synchronize(self) -> None:
        self._stream.synchronize()

    def mark(self) -> Any:
        """An event that has happened when all work up to here is done."""
        event = self._cupy.cuda.Event(block=False, disable_timing=True)
        event.record(self._stream)
        return event

    @contextmanager
    def logged(self) -> Iterator[list[Launch]]:
        """The launches made within, in order."""
        self._log = []
        try:
            yield self._log
        finally:
            self._log = None

    # Time

    def timestamp(self) -> Any:
        """An event that notes when the device reached it."""
        event = self._cupy.cuda.Event()
        event.record(self._stream)
        return event

    def elapsed_us(self, start: Any, end: Any) -> float:
        """Between two timestamps; waits for the second."""
        end.synchronize()
        return 1e3 * float(self._cupy.cuda.get_elapsed_time(start, end))

    # Graphs

    def begin_capture(self) -> None:
        """From here on launches are recorded instead of run."""
        self._stream.begin_capture()
        self.capturing = True

    def end_capture(self) -> Any:
        self.capturing = False
        return self._stream.end_capture()

    def replay(self, graph: Any) -> None:
        graph.launch(self._stream)

    def cubin_path(self, module: str) -> Path:
        """Of a module's machine code, compiled now where it is not there yet."""
        path = self._cubin_paths.get(module)
        if path is None:
            path = self._cubin_paths[module] = self._cubins.path(MODULES[module])
        return path

    def _kernel(self, module: str, kernel: str) -> Any:
        found = self._kernels.get((module, kernel))
        if found is None:
            with self._device:
                loaded = self._cupy.RawModule(path=str(self.cubin_path(module)))
                for name in MODULES[module].kernels:
                    self._kernels[module, name] = loaded.get_function(name)
            found = self._kernels[module, kernel]
        return found


class DeviceBuffer:
    """Owns device memory; `pointer` is its address."""

    __slots__ = ("_array", "n_bytes", "pointer")

    def __init__(self, array: Any, n_bytes: int) -> None:
        self._array = array
        self.n_bytes = n_bytes
        self.pointer: int = array.data.ptr


def _import_cupy() -> Any:
    try:
        return importlib.import_module("cupy")
    except ImportError as error:
        raise CupyMissingError(
            f"CUDA needs CuPy, which does not load ({error}); install espalier[cuda13] or espalier[cuda12]"
        ) from error
    except OSError as error:  # it makes its cache folder when imported
        raise CudaError(
            f"CuPy does not start ({error}); set CUPY_CACHE_DIR to a folder that can be written to"
        ) from error


def _no_driver(error: Exception) -> str:
    text = str(error)
    if "InsufficientDriver" in text:
        return "the NVIDIA driver is older than this CuPy needs; update it, or install espalier[cuda12]"
    return f"no usable NVIDIA GPU or driver ({text.partition(':')[0].strip()}); nvidia-smi shows what the system sees"


def _mib(n_bytes: int) -> str:
    return f"{n_bytes / 2**20:.0f} MiB"
