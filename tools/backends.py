"""From --device and --threads to a backend, and the line that says which machine ran."""

import os
import platform
from pathlib import Path
from typing import Any

from engine.errors import EspalierError
from engine.loading.kt_trellis import TRELLIS_CHOICES
from kernels import load_backend
from kernels.kv_type import KV_TYPES


def open_backend(device: str, threads: int | None) -> Any:
    """Raises EspalierError for a device this build or machine does not have."""
    if device == "cuda":
        raise EspalierError("--device cuda is not in this build; use --device cpu")
    if device not in ("auto", "cpu", "reference"):
        raise EspalierError(f"--device is {device!r}; it is one of auto, cpu, reference")
    if device == "reference":
        if threads is not None:
            raise EspalierError(
                "--threads has no meaning for --device reference, which is NumPy on one thread"
            )
        return load_backend("reference")
    try:
        return load_backend("cpu", threads=threads)
    except ValueError as error:
        raise EspalierError(str(error)) from None


def checked_trellis(text: str) -> Any:
    """One of the choices of --kt-trellis. Raises EspalierError."""
    if text not in TRELLIS_CHOICES:
        raise EspalierError(f"--kt-trellis is {text!r}; it is one of {', '.join(TRELLIS_CHOICES)}")
    return text


def checked_kv_type(text: str) -> str:
    """One of the choices of --kv-type. Raises EspalierError."""
    if text not in KV_TYPES:
        raise EspalierError(f"--kv-type is {text!r}; it is one of {', '.join(KV_TYPES)}")
    return text


def backend_line(ops: Any) -> str:
    """Backend, ISA tier and threads in words."""
    return f"cpu, {ops.isa}, {ops.n_threads} threads" if ops.name == "cpu" else ops.name


def machine_line() -> str:
    """The CPU's name and how many of them this process may use."""
    return f"{_cpu_name()}, {len(os.sched_getaffinity(0))} CPUs"


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
