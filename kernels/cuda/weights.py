"""Matrices on the device: the file's own rows, or for the KT types tiles that a kernel packs after the copy.

Rows with a tail (IQ3_KT and IQ4_KT, no multiple of 256 weights) stay the file's rows: tiles are 256 columns wide.

A tensor goes up in pieces of whole tile rows through one staging buffer, so the peak is the model and that buffer.
"""

from dataclasses import dataclass

import numpy as np

from kernels.cuda.compile import DENSE_TYPES, TILED_TYPES
from kernels.cuda.device import Device, DeviceBuffer
from kernels.quant_tensor import QuantType

TILE_ROWS = 16  # kt_tiles.cuh
TILE_COLUMNS = 256
#: Bytes of a tile (kt_tiles.cuh): 16 blocks of the file, and for IQ4_KT one more bit an index.
TILE_BYTES = {"IQ1_KT": 896, "IQ2_KT": 1088, "IQ3_KT": 1600, "IQ4_KT": 2176}
STAGING_BYTES = 32 << 20


@dataclass(frozen=True)
class DeviceMatrix:
    """layout: "tiles", "rows" (of a quantized type) or "dense". module: where its kernels are (compile.py)."""

    buffer: DeviceBuffer
    layout: str
    module: str
    n_out: int
    n_in: int


@dataclass(frozen=True)
class DeviceStack:
    """n matrices one after the other, each as a DeviceMatrix of that layout lies."""

    buffer: DeviceBuffer
    layout: str
    module: str  # of one matrix
    n: int
    n_out: int
    n_in: int

    @property
    def matrix_bytes(self) -> int:
        return self.buffer.n_bytes // self.n


def tiles_bytes(type_name: str, n_out: int, n_in: int) -> int:
    """Of a whole matrix in tiles."""
    n_tile_rows, n_tiles_in = -(-n_out // TILE_ROWS), n_in // TILE_COLUMNS
    return n_tile_rows * (n_tiles_in * TILE_BYTES[type_name] + 4 * TILE_ROWS)


class Uploader:
    """Brings matrices to one device."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._staging: DeviceBuffer | None = None

    def matrix(
        self, quant_type: QuantType, n_out: int, n_in: int, file_bytes: np.ndarray, uses: frozenset[str]
    ) -> DeviceMatrix:
        """Raises CudaMemoryError. file_bytes may go when this returns."""
        layout = _layout(quant_type.name, n_in, uses)
        if layout == "tiles":
            buffer = self._device.allocate(tiles_bytes(quant_type.name, n_out, n_in))
            self._pack(quant_type, n_out, n_in, file_bytes, buffer.pointer)
        else:
            buffer = self._device.allocate(file_bytes.nbytes)
            self._device.upload(buffer.pointer, file_bytes)
        self._device.synchronize()
        return DeviceMatrix(buffer, layout, f"{layout}_{quant_type.name}", n_out, n_in)

    def stack(
        self, quant_type: QuantType, n: int, n_out: int, n_in: int, matrices: np.ndarray
    ) -> DeviceStack:
        """matrices: uint8 [n, bytes of a matrix]. Raises CudaMemoryError."""
        layout = _layout(quant_type.name, n_in, frozenset({"linear"}))
        if layout == "tiles":
            n_bytes = tiles_bytes(quant_type.name, n_out, n_in)
            buffer = self._device.allocate(n * n_bytes)
            for i, file_bytes in enumerate(matrices):
                self._pack(quant_type, n_out, n_in, file_bytes, buffer.pointer + i * n_bytes)
        else:
            buffer = self._device.allocate(matrices.nbytes)
            self._device.upload(buffer.pointer, matrices)
        self._device.synchronize()
        return DeviceStack(buffer, layout, f"{layout}_{quant_type.name}", n, n_out, n_in)

    def finish(self) -> None:
        """Give the staging buffer back: the model is loaded."""
        self._staging = None

    def _pack(self, quant_type: QuantType, n_out: int, n_in: int, file_bytes: np.ndarray, tiles: int) -> None:
        """tiles: the address where those of the matrix go."""
        n_tiles_in = n_in // TILE_COLUMNS
        row_bytes = quant_type.row_bytes(n_in)
        rows_at_once = max(STAGING_BYTES // row_bytes // TILE_ROWS, 1) * TILE_ROWS
        staging = self._staging_of(min(rows_at_once, n_out) * row_bytes)
        for first in range(0, n_out, rows_at_once):
            n_rows = min(rows_at_once, n_out - first)
            self._device.upload(staging.pointer, file_bytes[first * row_bytes : (first + n_rows) * row_bytes])
            self._device.launch(
                f"tiles_{quant_type.name}",
                "kt_pack",
                (n_tiles_in, -(-n_rows // TILE_ROWS)),
                32,
                (
                    *(np.uint64(staging.pointer), np.int32(n_rows), np.int32(first)),
                    *(np.uint64(tiles), np.int32(n_out), np.int32(n_in)),
                ),
            )

    def _staging_of(self, n_bytes: int) -> DeviceBuffer:
        if self._staging is None or self._staging.n_bytes < n_bytes:
            self._staging = self._device.allocate(n_bytes)
        return self._staging


def _layout(type_name: str, n_in: int, uses: frozenset[str]) -> str:
    if type_name in TILED_TYPES and "linear" in uses and n_in % TILE_COLUMNS == 0:
        return "tiles"
    return "dense" if type_name in DENSE_TYPES else "rows"
