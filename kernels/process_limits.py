"""What this process may use of the machine: threads for a kernel's loops, and bytes of memory.

Threads: one for each physical core that the process may keep busy. The affinity mask, which a cpuset is part of, says
which CPUs it may use; two of them may be the threads of one core, which share its multipliers, so that the second
gains little and holds up the first. And a container's quota says for how much time: more threads than that are
stopped until the next period, in the middle of a loop.

Memory: the least of what the machine has available, what each control group leaves, and the process's own limits.
Page cache that a group could give up counts as free, as it does in the machine's MemAvailable. Swap counts nowhere:
weights or a cache in it would make every token wait for a disk.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from kernels.control_groups import group_folders

KIB = 1024
MACHINE = Path("/")
#: Limits, usage and the reclaimable part of it in memory.stat, by version: version 2 counts a group's children under
#: the plain names, version 1 under total_*. A group over memory.high is not killed, it is slowed to a crawl.
_MEMORY_FILES = (
    (("memory.max", "memory.high"), "memory.current", ("inactive_file", "active_file")),
    (("memory.limit_in_bytes",), "memory.usage_in_bytes", ("total_inactive_file", "total_active_file")),
)
#: A limit's line in /proc/self/limits, what counts against it in /proc/self/status, the shell's name of it.
_OWN_LIMITS = (("Max address space", "VmSize", "ulimit -v"), ("Max data size", "VmData", "ulimit -d"))


class MemoryRoom(NamedTuple):
    """How much more memory the process may take, and what says so."""

    n_bytes: int
    limit: str = "the machine"  # or the device, or the file or name of a limit
    limit_bytes: int | None = None  # of a limit that somebody set


def default_threads(root: Path = MACHINE, allowed: frozenset[int] | None = None) -> int:
    """At least 1. root: where proc and sys are; allowed: CPU numbers, None for this process's affinity mask."""
    cpus = frozenset(os.sched_getaffinity(0)) if allowed is None else allowed
    quota = cpu_quota(root)
    cores = physical_cores(root, cpus)
    return max(1, cores if quota is None else min(cores, int(quota)))


def physical_cores(root: Path, cpus: frozenset[int]) -> int:
    """Cores that these CPUs are threads of; where the system does not say, each is one of its own."""
    return len({_core_of(root, cpu) for cpu in cpus})


def _core_of(root: Path, cpu: int) -> tuple[str, ...]:
    topology = root / "sys/devices/system/cpu" / f"cpu{cpu}" / "topology"
    try:
        return tuple((topology / name).read_text().strip() for name in ("physical_package_id", "core_id"))
    except OSError:
        return ("cpu", str(cpu))


def cpu_quota(root: Path) -> float | None:
    """CPUs' worth of time that this process's control groups allow together, the least of them; None: no limit."""
    return min(_quotas(root), default=None)


def _quotas(root: Path) -> Iterator[float]:
    for folder in group_folders(root, "cpu"):
        for words in (
            _text(folder / "cpu.max").split(),
            _text(folder / "cpu.cfs_quota_us").split() + _text(folder / "cpu.cfs_period_us").split(),
        ):
            # Version 2 writes "max" for no limit, version 1 writes -1.
            if len(words) == 2 and all(word.isdigit() and int(word) > 0 for word in words):
                yield int(words[0]) / int(words[1])


def available_memory(root: Path = MACHINE) -> MemoryRoom:
    """Bytes that this process may still take. root: where proc and sys are."""
    rooms = (_machine_room(root), *_group_rooms(root), *_own_rooms(root))
    return min(rooms, key=lambda room: room.n_bytes)


def _machine_room(root: Path) -> MemoryRoom:
    """MemAvailable: free pages and those the kernel would give up."""
    for line in _text(root / "proc/meminfo").splitlines():
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            return MemoryRoom(int(value.split()[0]) * KIB)
    return MemoryRoom(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))


def _group_rooms(root: Path) -> Iterator[MemoryRoom]:
    for folder in group_folders(root, "memory"):
        for limits, usage, reclaimable in _MEMORY_FILES:
            used = _text(folder / usage).strip()
            if not used.isdigit():
                continue
            counters = _counters(_text(folder / "memory.stat"))
            kept = int(used) - sum(counters.get(name, 0) for name in reclaimable)
            for limit, n_bytes in _group_limits(folder, limits, counters):
                yield MemoryRoom(max(n_bytes - max(kept, 0), 0), limit, n_bytes)


def _group_limits(
    folder: Path, names: tuple[str, ...], counters: dict[str, int]
) -> Iterator[tuple[str, int]]:
    for path in (folder / name for name in names):
        text = _text(path).strip()
        if text.isdigit():
            yield str(path), int(text)
    # Version 1: the least limit of the group and all above it, those outside a container included.
    if "hierarchical_memory_limit" in counters:
        name = "hierarchical_memory_limit"
        yield f"{name} in {folder / 'memory.stat'}", counters[name]


def _own_rooms(root: Path) -> Iterator[MemoryRoom]:
    limits = _text(root / "proc/self/limits").splitlines()
    status = dict(line.split(":", 1) for line in _text(root / "proc/self/status").splitlines() if ":" in line)
    for name, used_name, shell_name in _OWN_LIMITS:
        soft = next((line[len(name) :].split()[0] for line in limits if line.startswith(name)), "unlimited")
        used = status.get(used_name, "0").split()[0]
        if soft.isdigit() and used.isdigit():
            yield MemoryRoom(max(int(soft) - int(used) * KIB, 0), shell_name, int(soft))


def _counters(text: str) -> dict[str, int]:
    """Lines of a name and a number."""
    pairs = (line.split() for line in text.splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}


def _text(path: Path) -> str:
    """The file's text; nothing where this system has no such file or does not let it be read."""
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError):
        return ""
