"""NVIDIA's run-time compiler through ctypes: one .cu file -> machine code of one architecture. Needs no GPU.

The library comes from the nvidia-cuda-nvrtc wheel (which CuPy's `ctk` extra brings too), else from the system.
"""

import ctypes
import ctypes.util
import importlib.util
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

#: Includes in the .cu files are relative to this folder.
INCLUDE_ROOT = Path(__file__).resolve().parents[1]

#: What every kernel is compiled with. Without contraction: an fma stands where one is meant (portability.h).
OPTIONS = ("--std=c++17", "--fmad=false", "--ptxas-options=-v", "--device-as-default-execution-space")


class NvrtcError(RuntimeError):
    """The compiler is missing, or refused a file; the message says which and why."""


class Compiled(NamedTuple):
    cubin: bytes
    log: str  # registers, shared memory and spills of each kernel, as ptxas words them


def compile_cubin(source: Path, defines: Sequence[str], arch: str) -> Compiled:
    """Machine code of every `extern "C"` kernel in `source` for `arch` ("sm_90").

    defines: macro definitions, "NAME" or "NAME=VALUE". Raises NvrtcError.
    """
    library = _library()
    options = [
        f"--gpu-architecture={arch}",
        f"--include-path={INCLUDE_ROOT}",
        *OPTIONS,
        *(f"--define-macro={define}" for define in defines),
    ]
    program = ctypes.c_void_p()
    text, name = source.read_bytes(), str(source).encode()
    _check(library.nvrtcCreateProgram(ctypes.byref(program), text, name, 0, None, None), "create a program")
    try:
        status = library.nvrtcCompileProgram(
            program, len(options), (ctypes.c_char_p * len(options))(*(o.encode() for o in options))
        )
        log = _output(library, "nvrtcGetProgramLog", program).rstrip(b"\0").decode(errors="replace")
        if status:
            raise NvrtcError(f"{source.name} does not compile for {arch} ({' '.join(defines)}):\n{log}")
        return Compiled(_output(library, "nvrtcGetCUBIN", program), log)
    finally:
        library.nvrtcDestroyProgram(ctypes.byref(program))


def version() -> tuple[int, int]:
    """Major and minor version of the compiler. Raises NvrtcError where there is none."""
    major, minor = ctypes.c_int(), ctypes.c_int()
    _check(_library().nvrtcVersion(ctypes.byref(major), ctypes.byref(minor)), "say its version")
    return major.value, minor.value


def _output(library: ctypes.CDLL, getter: str, program: ctypes.c_void_p) -> bytes:
    size = ctypes.c_size_t()
    _check(getattr(library, f"{getter}Size")(program, ctypes.byref(size)), getter)
    buffer = ctypes.create_string_buffer(size.value)
    _check(getattr(library, getter)(program, buffer), getter)
    return buffer.raw


def _check(status: int, what: str) -> None:
    if status:
        raise NvrtcError(f"NVRTC could not {what}: error {status}")


@cache
def _library() -> ctypes.CDLL:
    tried = []
    for candidate in _candidates():
        try:
            library = ctypes.CDLL(candidate)
        except OSError as error:
            tried.append(str(error))
            continue
        library.nvrtcGetErrorString.restype = ctypes.c_char_p
        return library
    raise NvrtcError(
        "no CUDA compiler: libnvrtc is neither in this Python environment nor on the system; "
        f"install espalier[cuda13] or nvidia-cuda-nvrtc ({'; '.join(tried) or 'nothing found'})"
    )


def _candidates() -> Iterator[str]:
    """The wheels' folders (nvidia/cu13/lib, nvidia/cuda_nvrtc/lib), newest name first, then the loader's search."""
    spec = importlib.util.find_spec("nvidia")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        for path in sorted(Path(folder).glob("*/lib/libnvrtc.so.*"), reverse=True):
            if "builtins" not in path.name:
                yield str(path)
    system = ctypes.util.find_library("nvrtc")
    if system:
        yield system
    yield from ("libnvrtc.so.13", "libnvrtc.so.12")
