"""Sizes and free memory in words, for lines that a person reads."""

import math

from kernels.ops import Ops
from kernels.process_limits import MemoryRoom, available_memory


def memory_for(ops: Ops) -> MemoryRoom:
    """What weights and the KV cache may take: of the device's memory where it has its own, else of the host's."""
    device_bytes = ops.free_bytes()
    return available_memory() if device_bytes is None else MemoryRoom(device_bytes, "the device")


def format_bytes(n: int) -> str:
    """In the largest binary unit that leaves one or more: 1.5 GiB. Rounded up: enough if asked for."""
    size, units = float(n), ["bytes", "KiB", "MiB", "GiB", "TiB"]
    while size >= 1024 and len(units) > 1:
        size, units = size / 1024, units[1:]
    return f"{n} bytes" if units[0] == "bytes" else f"{math.ceil(size * 10) / 10:.1f} {units[0]}"


def room_text(room: MemoryRoom) -> str:
    """Who has how much memory free: the machine, or a limit by its name and size."""
    if room.limit_bytes is None:
        return f"{room.limit} has {format_bytes(room.n_bytes)} free"
    return f"{room.limit} is {format_bytes(room.limit_bytes)}, which leaves {format_bytes(room.n_bytes)} free"


def advice(room: MemoryRoom, action: str) -> str:
    """What helps: `action`, or another limit where it is one that can be set."""
    return action if room.limit_bytes is None else f"{action}, or raise that limit"
