"""Arrays whose last byte lies against a page that nobody may touch, and the CPU backend with its arrays like that.

A kernel that reads or writes one byte past a buffer then ends its process with SIGSEGV. The backend's own memory,
tiles and scratch, lies so in any case (kernels/cpu/guarded_memory.h).
"""

import ctypes
import mmap
from typing import Any

import numpy as np

from kernels.cpu.ops import CpuOps, FileRows
from kernels.quant_tensor import QuantStack, QuantTensor

_PROT_NONE = 0
_LIBC = ctypes.CDLL(None, use_errno=True)


def empty(shape: tuple[int, ...] | int, dtype: Any) -> np.ndarray:
    """Zeros, before a guard page. The memory lasts as long as a view of it."""
    size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    pages = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
    memory = np.frombuffer(mmap.mmap(-1, pages + mmap.PAGESIZE), np.uint8)
    guard = ctypes.c_void_p(memory.ctypes.data + pages)
    if _LIBC.mprotect(guard, ctypes.c_size_t(mmap.PAGESIZE), _PROT_NONE) != 0:
        raise OSError(ctypes.get_errno(), "mprotect")
    return memory[pages - size : pages].view(dtype).reshape(shape)


def guarded(values: np.ndarray) -> np.ndarray:
    """A copy of values before a guard page."""
    out = empty(values.shape, values.dtype)
    out[...] = values
    return out


class GuardedArena:
    """Every result in memory of its own, full of NaN."""

    def take(self, *shape: int) -> np.ndarray:
        out = empty(shape, np.float32)
        out.fill(np.nan)
        return out


class GuardedOps(CpuOps):
    """Every array that it makes, or that comes in through the loading calls, lies before a guard page."""

    def __init__(self, threads: int, isa: str, planes: int = 1) -> None:
        super().__init__(threads, isa, planes)
        self._arena: Any = GuardedArena()

    def load_quant(
        self, type_name: str, shape: tuple[int, int], data: Any, uses: frozenset[str]
    ) -> QuantTensor:
        weight = super().load_quant(type_name, shape, guarded(data), uses)
        if not isinstance(weight.data, FileRows):
            return weight
        return QuantTensor(FileRows(guarded(weight.data.data)), weight.type, shape, weight.nbytes)

    def load_stack(self, type_name: str, shape: tuple[int, int, int], data: Any) -> QuantStack:
        return super().load_stack(type_name, shape, guarded(data))

    def first_nonfinite_row(self, type_name: str, shape: tuple[int, int], data: Any) -> int | None:
        return super().first_nonfinite_row(type_name, shape, guarded(data))

    def load_vector(self, values: np.ndarray) -> np.ndarray:
        return guarded(super().load_vector(values))

    def index_array(self, values: np.ndarray) -> np.ndarray:
        return guarded(super().index_array(values))

    def new_cache(self, *group: Any, **kv_type: Any) -> list[Any]:
        return [_guarded_arrays(layer) for layer in super().new_cache(*group, **kv_type)]


def _guarded_arrays(layer: Any) -> Any:
    """A cache of which every array lies so."""
    arrays = {name: value for name, value in layer._asdict().items() if isinstance(value, np.ndarray)}
    return layer._replace(**{name: guarded(array) for name, array in arrays.items()})
