"""Memory for what the CPU backend's operations return, and for a step's index arrays: taken once and used again."""

import ctypes
import math
import sys

import numpy as np

LANES = 16  # floats of a cache line

#: References to a buffer that no view holds: the list, the loop variable and getrefcount's argument.
_UNUSED = 3


class OutputMemory:
    """Where logits lie: one buffer for passes of every shape.

    The arena's powers of two, one for each number of rows, would take up to four times as much.
    """

    def __init__(self) -> None:
        self._n_columns = 0
        self._buffer = np.empty(0, np.float32)
        self._outgrown: list[
            np.ndarray
        ] = []  # recorded passes of models that came before may still write there

    def reserve(self, n_rows: int, n_columns: int) -> None:
        """For arrays [up to n_rows, n_columns]. Its pages are taken now, so that none is missing in a step."""
        self._n_columns = n_columns
        size = n_rows * n_columns + LANES
        if size > len(self._buffer):
            self._outgrown.append(self._buffer)
            self._buffer = np.empty(size, np.float32)
            self._buffer.fill(0)

    def take(self, *shape: int) -> np.ndarray | None:
        """The array, or None where that is no output or its memory is held."""
        n = math.prod(shape)
        if shape[-1] != self._n_columns or n + LANES > len(self._buffer):
            return None
        if sys.getrefcount(self._buffer) > _UNUSED - 1:  # the attribute and getrefcount's argument
            return None
        start = -(self._buffer.ctypes.data // 4) % LANES
        return self._buffer[start : start + n].reshape(shape)


class Arena:
    """Memory for results, used again as soon as nobody holds the result that lay in it.

    A forward pass holds a handful of activations at a time but makes hundreds; reusing their memory within a step
    keeps it in cache, and a decode step allocates nothing. Sizes are powers of two, so that passes of any length
    share buffers.
    """

    def __init__(self, outputs: OutputMemory) -> None:
        self._outputs = outputs
        self._buffers: dict[int, list[np.ndarray]] = {}  # by size; each owns its memory

    @property
    def nbytes(self) -> int:
        """What it has taken, the output memory aside."""
        return sum(buffer.nbytes for buffers in self._buffers.values() for buffer in buffers)

    def take(self, *shape: int) -> np.ndarray:
        """An uninitialized float32 array on a cache line, valid for as long as it is held."""
        output = self._outputs.take(*shape)
        if output is not None:
            return output
        n = math.prod(shape)
        size = 1 << (n + LANES).bit_length()
        buffers = self._buffers.setdefault(size, [])
        for buffer in buffers:
            if sys.getrefcount(buffer) == _UNUSED:
                break
        else:
            buffer = np.empty(size, np.float32)
            buffers.append(buffer)
        start = -(buffer.ctypes.data // 4) % LANES
        return buffer[start : start + n].reshape(shape)  # a view counts as a reference to its buffer


def without_memory(array: np.ndarray) -> np.ndarray:
    """The same floats; their memory is free for the next result although this array is there."""
    memory = (ctypes.c_float * array.size).from_address(array.ctypes.data)
    floats: np.ndarray = np.ctypeslib.as_array(memory)
    return floats.reshape(array.shape)


class IndexMemory:
    """The int32 arrays of one step, one after the other: those of the next step lie where these lay, if they are as
    many and as long, and a recorded pass reads them there. Arrays are kept from step to step: making one costs more
    than filling it."""

    def __init__(self) -> None:
        self._memory = np.empty(1 << 16, np.int32)
        self._arrays: list[np.ndarray] = []
        self._ends: list[int] = []  # of those, in the memory
        self._addresses: list[int] = []
        self._n = 0  # of this step

    @property
    def addresses(self) -> list[int]:
        """Of the arrays of this step."""
        return self._addresses[: self._n]

    def reset(self) -> None:
        self._n = 0

    def put(self, values: np.ndarray) -> np.ndarray:
        """A copy, valid until the next step."""
        n, self._n = self._n, self._n + 1
        if n == len(self._arrays) or self._arrays[n].shape != values.shape:
            del self._arrays[n:], self._ends[n:], self._addresses[n:]
            self._append(values.shape)
        array = self._arrays[n]
        array[...] = values
        return array

    def _append(self, shape: tuple[int, ...]) -> None:
        start, size = self._ends[-1] if self._ends else 0, math.prod(shape)
        end = start + -(-size // LANES) * LANES
        if end > len(self._memory):  # the arrays before this one keep the memory they lie in
            self._memory = np.empty(2 * end, np.int32)
        self._arrays.append(self._memory[start : start + size].reshape(shape))
        self._ends.append(end)
        self._addresses.append(self._arrays[-1].ctypes.data)
