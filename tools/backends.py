"""From --device, --threads and --activations to a backend, and the line that says which machine ran."""

import os
import platform
from pathlib import Path
from typing import Any

from engine.errors import EspalierError
from engine.loading.kt_trellis import TRELLIS_CHOICES
from kernels import load_backend
from kernels.activation_planes import PLANES
from kernels.cuda.errors import CudaError, CupyMissingError
from kernels.kv_type import KV_TYPES
from kernels.ops import ATTENTIONS
from tools.terminal import say

DEVICES = ("auto", "cuda", "cpu", "reference")


def open_backend(device: str, threads: int | None, activations: int = 1, attention: str = "exact") -> Any:
    """auto is the GPU where one can be used, else the CPU, and a line says why; with threads it is the CPU.

    Without CuPy nobody has asked for a GPU, and the CPU needs no line of its own: `backend_line` names it. Attention
    "tensor" asks for one. activations: their int8 planes (kernels/activation_planes.py).
    Raises EspalierError for a device this build or machine does not have.
    """
    if device not in DEVICES:
        raise EspalierError(f"--device is {device!r}; it is one of {', '.join(DEVICES)}")
    if activations not in PLANES:
        raise EspalierError(f"--activations is {activations}; it is {' or '.join(map(str, PLANES))}")
    if device in ("cuda", "reference") and threads is not None:
        raise EspalierError(f"--threads has no meaning for --device {device}; it is for the CPU")
    _check_attention(attention, on_gpu=device == "cuda" or (device == "auto" and threads is None))
    try:
        if device == "auto":
            return _gpu_or_cpu(activations, attention) if threads is None else _cpu(threads, activations)
        if device == "cpu":
            return _cpu(threads, activations)
        of_gpu = {"attention": attention} if device == "cuda" else {}
        return load_backend(device, planes=activations, **of_gpu)
    except CudaError as error:
        raise EspalierError(f"--device cuda: {error}") from None
    except ValueError as error:
        raise EspalierError(str(error)) from None


def _check_attention(attention: str, on_gpu: bool) -> None:
    if attention not in ATTENTIONS:
        raise EspalierError(f"--attention is {attention!r}; it is one of {', '.join(ATTENTIONS)}")
    if attention == "tensor" and not on_gpu:
        raise EspalierError("--attention tensor is for --device cuda; without a GPU attention is exact")


def _cpu(threads: int | None, activations: int) -> Any:
    return load_backend("cpu", threads=threads, planes=activations)


def _gpu_or_cpu(activations: int, attention: str) -> Any:
    try:
        return load_backend("cuda", planes=activations, attention=attention)
    except CudaError as error:
        if attention != "exact":
            say(f"on the CPU, where attention is exact: {error}")
        elif not isinstance(error, CupyMissingError):
            say(f"on the CPU: {error}")
        return _cpu(None, activations)


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
    """Backend with ISA tier and threads, or with the GPU's name; the planes of activations where there are two."""
    if ops.name == "cuda":
        form = ", attention on tensor cores" if ops.attention_form == "tensor" else ""
        line = f"cuda, {ops.device_name}{form}"
    else:
        line = f"cpu, {ops.isa}, {ops.n_threads} threads" if ops.name == "cpu" else str(ops.name)
    return line if ops.planes == 1 else f"{line}, {ops.planes} planes of activations"


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
