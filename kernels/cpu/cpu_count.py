"""How many threads a kernel's loop should have: one for each physical core that this process may keep busy.

Three things bound it. The affinity mask says which CPUs the process may use; two of them may be the threads of one
core, which share its multipliers, so that the second gains little and holds up the first. And a container's quota
says for how much time: more threads than that are stopped until the next period, in the middle of a loop.
"""

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath


def default_threads(root: Path = Path("/"), allowed: frozenset[int] | None = None) -> int:
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
    for folder in _group_folders(root):
        for quota_name, period_name in (("cpu.max", None), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):
            try:
                words = (folder / quota_name).read_text().split()
                if period_name is not None:
                    words += (folder / period_name).read_text().split()
                quota, period = words
                if (
                    quota != "max" and float(quota) > 0 and float(period) > 0
                ):  # version 1 writes -1 for no limit
                    yield float(quota) / float(period)
            except (OSError, ValueError):
                continue


def _group_folders(root: Path) -> Iterator[Path]:
    """Of this process's groups and all above them, those with a say in CPU time. Inside a container the mount's root
    may be the container's own group whatever the path says, so that the root is always among them."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    mounts = root / "sys/fs/cgroup"
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        names = controllers.split(",") if controllers else []
        if controllers and "cpu" not in names:
            continue
        for mount in (
            [mounts / controllers, *(mounts / n for n in names)] if names else [mounts, mounts / "unified"]
        ):
            group = PurePosixPath(path.strip("/"))
            for part in () if ".." in group.parts else (group, *group.parents):
                yield mount / part
            yield mount
