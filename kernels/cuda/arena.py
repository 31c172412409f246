"""Memory for activations and for the small integer arrays of a step, all of it taken once and used for ever.

A forward pass holds a handful of activations at a time but makes hundreds. Their memory is free again when the last
array over it is gone; since one stream runs everything in order, the next result may be written there at once. Sizes
are powers of two, so passes of any length share buffers, and the same pass always gets the same addresses: that is
what lets a recorded one be replayed.
"""

import math
from typing import NamedTuple

import numpy as np

from kernels.cuda.device import Device, DeviceBuffer

ALIGNMENT = 256  # bytes, of everything handed out
INDEX_BYTES = (
    16 << 20
)  # at first: token ids, positions, slots, block tables and changes of logits of one step


class Int8Form(NamedTuple):
    """Addresses of an activation as int8 (quantize.cuh)."""

    q: int
    dx: int
    sums: int


class Lease:
    """A buffer in use; it goes back when nobody holds this."""

    __slots__ = ("_free", "buffer")

    def __init__(self, buffer: DeviceBuffer, free: list[DeviceBuffer]) -> None:
        self.buffer = buffer
        self._free = free

    def __del__(self) -> None:
        self._free.append(self.buffer)


class DeviceArray:
    """float32 or int32, row-major, on the device. int8: where its int8 form lies, if it has one."""

    __slots__ = ("_lease", "int8", "pointer", "shape")

    def __init__(
        self, pointer: int, shape: tuple[int, ...], lease: object, int8: Int8Form | None = None
    ) -> None:
        self.pointer = pointer
        self.shape = shape
        self.int8 = int8
        self._lease = lease  # held, never looked at

    def reshape(self, *shape: int) -> "DeviceArray":
        """The same memory. One side may be -1: what the others leave. Only the same shape keeps the int8 form."""
        if -1 in shape:
            rest = math.prod(self.shape) // -math.prod(shape)
            shape = tuple(rest if n == -1 else n for n in shape)
        assert math.prod(shape) == math.prod(self.shape), f"{self.shape} does not become {shape}"
        return DeviceArray(self.pointer, shape, self._lease, self.int8 if shape == self.shape else None)

    def without_memory(self) -> "DeviceArray":
        """The same numbers; their memory is free for the next result although this array is there."""
        return DeviceArray(self.pointer, self.shape, None)

    def __len__(self) -> int:
        return self.shape[0]


class Arena:
    """Leases memory of one device."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._free: dict[int, list[DeviceBuffer]] = {}  # by size
        self._outputs: list[DeviceBuffer] = []  # free ones
        self._all_outputs: list[DeviceBuffer] = []  # graphs of models that came before may still write to any
        self._output_columns = self._output_bytes = 0
        self.n_bytes = 0  # taken in all
        self.sealed = False  # while a pass is recorded nothing new may be taken

    def reserve_outputs(self, n_buffers: int, n_rows: int, n_columns: int) -> None:
        """Memory for so many arrays [up to n_rows, n_columns] at a time, which passes of every shape share."""
        self._output_columns = n_columns
        n_bytes = 4 * n_rows * n_columns
        if n_bytes <= self._output_bytes:
            return
        self._output_bytes = n_bytes
        self._outputs = [self._device.allocate(n_bytes) for _ in range(n_buffers)]
        self._all_outputs += self._outputs
        self.n_bytes += n_buffers * n_bytes

    def take(self, *shape: int) -> DeviceArray:
        """Uninitialized float32."""
        n_bytes = 4 * math.prod(shape)
        if shape[-1] == self._output_columns and n_bytes <= self._output_bytes and self._outputs:
            lease = Lease(self._outputs.pop(), self._outputs)
        else:
            lease = self._lease(n_bytes)
        return DeviceArray(lease.buffer.pointer, shape, lease)

    def hold(self, array: DeviceArray) -> DeviceArray:
        """An array `without_memory` with its memory again, where nobody has it."""
        for free in (self._outputs, *self._free.values()):
            for place, buffer in enumerate(free):
                if buffer.pointer == array.pointer:
                    del free[place]
                    return DeviceArray(array.pointer, array.shape, Lease(buffer, free))
        return array

    def take_with_int8(self, n_rows: int, n: int) -> DeviceArray:
        """Uninitialized float32 [n_rows, n], n a multiple of 32, with room for its int8 form."""
        q_at = _aligned(4 * n_rows * n)
        lease = self._lease(q_at + _int8_bytes(n_rows, n))
        int8 = _int8_form(lease.buffer.pointer + q_at, n_rows, n)
        return DeviceArray(lease.buffer.pointer, (n_rows, n), lease, int8)

    def take_int8(self, n_rows: int, n: int) -> tuple[Int8Form, object]:
        """Room for an int8 form alone, and what to hold while it is used."""
        lease = self._lease(_int8_bytes(n_rows, n))
        return _int8_form(lease.buffer.pointer, n_rows, n), lease

    def _lease(self, n_bytes: int) -> Lease:
        size = 1 << max(n_bytes - 1, ALIGNMENT - 1).bit_length()
        free = self._free.setdefault(size, [])
        if free:
            return Lease(free.pop(), free)
        assert not self.sealed, "a recorded pass needs memory that the pass before it did not"
        self.n_bytes += size
        return Lease(self._device.allocate(size), free)


class IndexArena:
    """int32 arrays of one step, in the order of its calls, sent to the device in one copy.

    Two steps under way use one host buffer in turn: `reset` waits until the last copy from it has run. A step that
    needs more memory than there is gets a second, larger buffer for the rest of its arrays, and later steps use
    that one.
    """

    def __init__(self, device: Device) -> None:
        self._device = device
        self._buffer = device.allocate(INDEX_BYTES)
        self._host = device.pinned(INDEX_BYTES)
        self._end = 0
        self._sent = 0
        self._copied: object | None = None  # event
        self._first: int = self._buffer.pointer  # of the step's first buffer

    @property
    def place(self) -> tuple[int, int]:
        """Where the step's arrays lie: those of two steps with equal places and shapes have equal addresses."""
        return self._first, self._buffer.pointer

    def reset(self) -> None:
        if self._copied is not None:
            self._copied.synchronize()  # type: ignore[attr-defined]
        self._end = self._sent = 0
        self._copied = None
        self._first = self._buffer.pointer

    def put(self, values: np.ndarray) -> DeviceArray:
        """A copy of values, int32, on the device after the next `send`."""
        ints = np.ascontiguousarray(values, np.int32)
        if _aligned(self._end + ints.nbytes) > self._host.nbytes:
            self._grow(ints.nbytes)
        start, self._end = self._end, _aligned(self._end + ints.nbytes)
        self._host[start : start + ints.nbytes] = ints.reshape(-1).view(np.uint8)
        return DeviceArray(self._buffer.pointer + start, ints.shape, self._buffer)

    def send(self) -> None:
        """Copy what was put since the last call."""
        if self._sent == self._end:
            return
        self._device.upload(self._buffer.pointer + self._sent, self._host[self._sent : self._end])
        self._sent = self._end
        self._copied = self._device.mark()

    def _grow(self, n_bytes: int) -> None:
        """Room for n_bytes more, in another buffer. Arrays of this step hold the one that they lie in."""
        self.send()
        self._device.synchronize()  # the host's buffer is about to go
        size = 1 << (self._host.nbytes + n_bytes).bit_length()
        self._buffer, self._host = self._device.allocate(size), self._device.pinned(size)
        self._end = self._sent = 0


def _int8_bytes(n_rows: int, n: int) -> int:
    return _aligned(n_rows * n) + 2 * _aligned(4 * n_rows * (n // 32))


def _int8_form(q: int, n_rows: int, n: int) -> Int8Form:
    dx = q + _aligned(n_rows * n)
    return Int8Form(q, dx, dx + _aligned(4 * n_rows * (n // 32)))


def _aligned(n_bytes: int) -> int:
    return -(-n_bytes // ALIGNMENT) * ALIGNMENT
