"""CUDA kernels on the CPU: builds .cu files with g++ against tests/cuda/emulator and runs their kernels.

Builds are kept in build/cuda_emulator under a digest of every file they were made of, so that a second run
compiles nothing and two test processes share them.
"""

import ctypes
import fcntl
import os
import re
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np

from kernels.cuda import nvrtc, sources

ROOT = Path(__file__).resolve().parents[2]
EMULATOR = ROOT / "tests" / "cuda" / "emulator"
BUILD = ROOT / "build" / "cuda_emulator"
INCLUDE_FOLDERS = (EMULATOR, nvrtc.INCLUDE_ROOT)
RUNTIME = ("block.cpp", "launch.cpp", "guarded_memory.cpp", "tensor_core.cpp")

#: No contraction, as on the device. Kernels view bytes as words, so no strict aliasing. The rest of a page is
#: touched before a stack frame passes it, so that the guard page below a fiber's stack is met. -O1: at -O2 the
#: kernels run no faster here and take half as long again to compile.
_FLAGS = (
    *("-std=c++17", "-O1", "-fPIC"),
    *("-ffp-contract=off", "-fno-math-errno", "-fno-strict-aliasing", "-fstack-clash-protection"),
    *("-Wall", "-Wextra", "-Wno-unknown-pragmas", "-DESP_CUDA_HOST"),
    *(f"-I{folder}" for folder in INCLUDE_FOLDERS),
)
#: Set to 1: undefined behaviour in a kernel is reported on stderr, with file and line.
SANITIZE = os.environ.get("ESPALIER_CUDA_UBSAN") == "1"
_CHECKS = ("-g1", "-fsanitize=undefined") if SANITIZE else ("-Werror",)

#: Thread orders. A result that depends on them misses a barrier.
LOWEST_FIRST, HIGHEST_FIRST, SEEDED = 0, 1, 20251
ORDERS = (LOWEST_FIRST, HIGHEST_FIRST, SEEDED)
#: In a block, by CUDA's rules.
MAX_THREADS = 1024

_one_launch = threading.Lock()  # the emulated device runs one kernel at a time


class KernelFault(RuntimeError):
    """A launch that a device would refuse, or a kernel that did what the emulation catches."""


@contextmanager
def thread_order(order: int) -> Iterator[None]:
    """Kernels run their ready threads lowest first, highest first, or as drawn with any other number as seed."""
    runtime().espalier_set_order(order)
    try:
        yield
    finally:
        runtime().espalier_set_order(LOWEST_FIRST)


class EmulatedModule:
    """The kernels of one library made by `build`."""

    def __init__(self, library: Path) -> None:
        runtime()  # its symbols first
        self._library = ctypes.CDLL(str(library))

    def launch(
        self,
        kernel: str,
        grid: Sequence[int],
        block: Sequence[int],
        arguments: Sequence[bytes],
        shared_bytes: int = 0,
    ) -> None:
        """Run every block. arguments: the bytes of each parameter. Raises KernelFault."""
        values = [ctypes.create_string_buffer(value, len(value)) for value in arguments]
        message = ctypes.create_string_buffer(2000)
        with _one_launch:
            failed = self._launcher(kernel)(
                _dimensions(grid),
                _dimensions(block),
                ctypes.c_size_t(shared_bytes),
                (ctypes.c_void_p * len(values))(*(ctypes.addressof(value) for value in values)),
                (ctypes.c_size_t * len(values))(*(len(value) for value in arguments)),
                ctypes.c_size_t(len(values)),
                message,
                ctypes.c_size_t(len(message)),
            )
        if failed:
            raise KernelFault(message.value.decode(errors="replace"))

    def has(self, kernel: str) -> bool:
        return hasattr(self._library, f"launch_{kernel}")

    def _launcher(self, kernel: str) -> "ctypes._NamedFuncPointer":
        try:
            return self._library[f"launch_{kernel}"]
        except AttributeError:
            raise KernelFault(f"the module has no kernel {kernel}") from None


class GuardedBuffer:
    """Device memory: an access past its end faults. `array` is the host's view of its bytes."""

    def __init__(self, n_bytes: int) -> None:
        self.pointer: int | None = runtime().espalier_allocate(n_bytes)
        if not self.pointer:
            raise MemoryError(f"no host memory for an emulated buffer of {n_bytes} bytes")
        self.array = np.frombuffer((ctypes.c_uint8 * n_bytes).from_address(self.pointer), np.uint8)

    def __del__(self) -> None:
        if getattr(self, "pointer", None):
            runtime().espalier_release(self.pointer)


def run_kernel(
    module: EmulatedModule,
    kernel: str,
    grid: Sequence[int],
    block: Sequence[int],
    *arguments: np.ndarray | np.generic,
    shared_bytes: int = 0,
) -> None:
    """Launch on guarded copies of the arrays, which take the results back."""
    buffers: list[tuple[np.ndarray, GuardedBuffer]] = []
    values = []
    for argument in arguments:
        if isinstance(argument, np.ndarray):
            buffer = GuardedBuffer(argument.nbytes)
            buffer.array[:] = np.ascontiguousarray(argument).reshape(-1).view(np.uint8)
            buffers.append((argument, buffer))
            values.append(np.uint64(buffer.pointer).tobytes())
        else:
            values.append(argument.tobytes())
    module.launch(kernel, grid, block, values, shared_bytes)
    for array, buffer in buffers:
        array[...] = buffer.array.view(array.dtype).reshape(array.shape)


@cache
def runtime() -> ctypes.CDLL:
    """The scheduler and the guarded memory, shared by all modules of the process."""
    files = {path for name in RUNTIME for path in _with_includes(EMULATOR / name)}
    path = _built(
        "runtime", sorted(files), lambda: "".join(f'#include "{name}"\n' for name in RUNTIME), ("-O3",)
    )
    library = ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
    library.espalier_allocate.restype = ctypes.c_void_p
    library.espalier_allocate.argtypes = [ctypes.c_size_t]
    library.espalier_release.argtypes = [ctypes.c_void_p]
    return library


def build(source: Path, defines: Sequence[str] = ()) -> Path:
    """A library with every `extern "C"` kernel of a .cu file. Raises KernelFault where g++ refuses it."""
    files = _with_includes(source)
    emulator = [
        path for name in ("cuda_host.h", "export_kernel.h") for path in _with_includes(EMULATOR / name)
    ]
    common = ("-fvisibility=hidden", *_CHECKS)
    options = (
        *common,
        "-include",
        str(_prefix(sorted(emulator), common)),
        *(f"-D{define}" for define in defines),
    )

    def program() -> str:
        exports = (f"ESP_EXPORT_KERNEL({name}, {bounds})" for name, bounds in _kernels(source, defines))
        lines = [
            f'#include "{source}"',
            "namespace espalier {",
            *exports,
            "}",
            "",
        ]
        return "\n".join(lines)

    return _built(source.stem, sorted({*files, *emulator}), program, options)


def _prefix(depends_on: Sequence[Path], options: Sequence[str]) -> Path:
    """A header that every kernel includes first; precompiled beside it, which halves the time of a build.

    g++ reads the header's text where it finds that its precompiled form does not fit.
    """
    header = BUILD / f"prefix-{sources.digest(depends_on, _compiler_version(), *_FLAGS, *options)}.h"
    precompiled = header.with_suffix(".h.gch")
    with _only_process(header):
        if not precompiled.exists():
            header.write_text('#include "cuda_host.h"\n#include "export_kernel.h"\n')
            _run_compiler(precompiled, ("-x", "c++-header", str(header)), options)
    return header


#: A kernel's head after preprocessing, __global__ gone and launch bounds kept under another name.
_KERNEL = re.compile(r'extern\s+"C"\s+void\s+(?:KEPT_BOUNDS\(((?:[^()]|\([^()]*\))*)\)\s*)?(\w+)\s*\(')


def _kernels(source: Path, defines: Sequence[str]) -> list[tuple[str, str]]:
    """Each kernel's name and the expressions in its __launch_bounds__; a kernel without takes any block."""
    kept = "-D__launch_bounds__(...)=KEPT_BOUNDS(__VA_ARGS__)"
    command = [
        "g++",
        "-E",
        "-P",
        "-x",
        "c++",
        *_FLAGS,
        kept,
        *(f"-D{define}" for define in defines),
        str(source),
    ]
    text = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    return [(name, bounds or str(MAX_THREADS)) for bounds, name in _KERNEL.findall(text)]


def _with_includes(path: Path) -> list[Path]:
    return sources.included_files(path, INCLUDE_FOLDERS)


def _built(
    name: str, depends_on: Sequence[Path], program: Callable[[], str], options: Sequence[str] = ()
) -> Path:
    """The library, from the build folder or compiled now from the C++ text that `program` makes."""
    key = sources.digest(depends_on, _compiler_version(), *_FLAGS, *options)
    library = BUILD / f"{name}-{key}.so"
    if library.exists():
        return library
    with _only_process(library):
        if not library.exists():
            _run_compiler(library, ("-shared", "-x", "c++", "-"), options, program())
    return library


@contextmanager
def _only_process(result: Path) -> Iterator[None]:
    """Another test process that makes the same file waits meanwhile."""
    BUILD.mkdir(parents=True, exist_ok=True)
    with result.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _run_compiler(result: Path, inputs: Sequence[str], options: Sequence[str], program: str = "") -> None:
    unfinished = result.with_suffix(f".{os.getpid()}.tmp")
    command = ["g++", *_FLAGS, *options, *inputs, "-o", str(unfinished)]
    done = subprocess.run(command, input=program, capture_output=True, text=True, check=False)
    if done.returncode:
        raise KernelFault(f"g++ refuses {result.stem}:\n{done.stderr}")
    unfinished.replace(result)


@cache
def _compiler_version() -> str:
    return subprocess.run(["g++", "--version"], capture_output=True, text=True, check=True).stdout


def _dimensions(sizes: Sequence[int]) -> "ctypes.Array[ctypes.c_uint]":
    return (ctypes.c_uint * 3)(*sizes, *([1] * (3 - len(sizes))))
