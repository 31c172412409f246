"""Parts of a pass that the host computes: activations go down to it, and what it makes of them comes up again."""

from collections.abc import Callable
from typing import Any

import numpy as np

from kernels.cuda.arena import Arena, DeviceArray
from kernels.cuda.device import Device
from kernels.cuda.recorder import Recorder
from kernels.ops import Result

OnHost = Callable[[np.ndarray], np.ndarray]


class HostParts:
    """`CudaOps.beside`. One buffer for each direction serves every part: the host waits for what it reads."""

    def __init__(self, device: Device, arena: Arena, recorder: Recorder) -> None:
        self._device, self._arena, self._recorder = device, arena, recorder
        self._down = self._up = device.pinned(0)

    def run(
        self, x: DeviceArray, on_host: OnHost, n_out: int, on_device: Callable[[], Result]
    ) -> tuple[DeviceArray, Result]:
        """The device works on `on_device` while the host does its part."""
        n_tokens, n_in = x.shape
        # Recordings hold the buffers that they were made with, also where a longer pass has taken larger ones since.
        self._down, down = self._floats(self._down, n_tokens, n_in)
        self._up, up = self._floats(self._up, n_tokens, n_out)
        events: list[Any] = []
        self._device.download(down.reshape(-1).view(np.uint8), x.pointer)
        self._recorder.between(lambda: events.append(self._device.mark()))
        beside = on_device()

        def compute() -> None:
            events.pop().synchronize()
            up[:] = on_host(down)

        self._recorder.between(compute)
        out = self._arena.take(n_tokens, n_out)
        self._device.upload(out.pointer, up)
        return out, beside

    def _floats(self, buffer: np.ndarray, n_rows: int, n: int) -> tuple[np.ndarray, np.ndarray]:
        """A buffer that holds float32 [n_rows, n], the given one if it does, and that array in it."""
        n_bytes = 4 * n_rows * n
        if buffer.nbytes < n_bytes:
            buffer = self._device.pinned(n_bytes)
        return buffer, buffer[:n_bytes].view(np.float32).reshape(n_rows, n)
