"""The default number of threads, on machines and in containers made of files."""

from pathlib import Path

import pytest

from kernels.cpu.cpu_count import default_threads
from kernels.cpu.ops import CpuOps

ALL = frozenset(range(8))


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n")


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """Two sockets of two cores of two threads: CPUs 0..3 are the first threads, 4..7 the second. No control group."""
    for cpu in ALL:
        topology = tmp_path / f"sys/devices/system/cpu/cpu{cpu}/topology"
        write(topology / "physical_package_id", str(cpu % 4 // 2))
        write(topology / "core_id", str(cpu % 2))  # numbered anew in each socket
    write(tmp_path / "proc/self/cgroup", "0::/")
    return tmp_path


def test_one_thread_a_physical_core(machine: Path) -> None:
    assert default_threads(machine, ALL) == 4


@pytest.mark.parametrize(
    ("allowed", "expected"),
    [({0}, 1), ({0, 4}, 1), ({0, 1, 4}, 2), ({0, 2}, 2), ({3, 6}, 2), ({3, 7}, 1)],
)
def test_the_affinity_mask_caps_it(machine: Path, allowed: set[int], expected: int) -> None:
    assert default_threads(machine, frozenset(allowed)) == expected


@pytest.mark.parametrize(
    ("quota", "expected"),
    [
        ("max 100000", 4),
        ("200000 100000", 2),
        ("50000 100000", 1),
        ("290000 100000", 2),
        ("1600000 100000", 4),
    ],
)
def test_a_version_2_quota_caps_it(machine: Path, quota: str, expected: int) -> None:
    """Part of a CPU is no thread: it would be stopped in the middle of every loop. Except that one is the least."""
    write(machine / "sys/fs/cgroup/cpu.max", quota)
    assert default_threads(machine, ALL) == expected


def test_the_least_quota_of_a_group_and_those_above_it_holds(machine: Path) -> None:
    write(machine / "proc/self/cgroup", "0::/box/inner/leaf")
    write(machine / "sys/fs/cgroup/box/inner/leaf/cpu.max", "max 100000")
    write(machine / "sys/fs/cgroup/box/cpu.max", "300000 100000")
    assert default_threads(machine, ALL) == 3
    write(machine / "sys/fs/cgroup/box/inner/cpu.max", "100000 100000")
    assert default_threads(machine, ALL) == 1
    write(machine / "sys/fs/cgroup/other/cpu.max", "50000 100000")
    write(machine / "sys/fs/cgroup/box/inner/cpu.max", "max 100000")
    assert default_threads(machine, ALL) == 3


@pytest.mark.parametrize("mount", ["cpu", "cpu,cpuacct"])
@pytest.mark.parametrize("place", ["docker/1234", "."])
def test_a_version_1_quota_caps_it(machine: Path, mount: str, place: str) -> None:
    """place ".": in a container that is shown its own group as the root, under the host's path."""
    write(machine / "proc/self/cgroup", "5:memory:/docker/1234\n4:cpu,cpuacct:/docker/1234\n0::/")
    folder = machine / "sys/fs/cgroup" / mount / place
    write(folder / "cpu.cfs_quota_us", "200000")
    write(folder / "cpu.cfs_period_us", "100000")
    assert default_threads(machine, ALL) == 2
    write(folder / "cpu.cfs_quota_us", "-1")
    assert default_threads(machine, ALL) == 4


def test_version_2_beside_version_1(machine: Path) -> None:
    write(machine / "proc/self/cgroup", "1:cpuset:/\n0::/box")
    write(machine / "sys/fs/cgroup/unified/box/cpu.max", "100000 100000")
    assert default_threads(machine, ALL) == 1


def test_a_path_outside_the_container_is_not_followed(machine: Path) -> None:
    """A process of another namespace reads its path with dots."""
    write(machine / "proc/self/cgroup", "0::/../other")
    write(machine / "sys/fs/other/cpu.max", "100000 100000")
    assert default_threads(machine, ALL) == 4


@pytest.mark.parametrize("text", ["", "max", "0 100000", "100000 0", "a b", "1 2 3"])
def test_what_cannot_be_read_is_no_limit(machine: Path, text: str) -> None:
    write(machine / "sys/fs/cgroup/cpu.max", text)
    assert default_threads(machine, ALL) == 4


def test_without_any_of_the_files_every_cpu_counts(tmp_path: Path) -> None:
    assert default_threads(tmp_path, ALL) == 8


def test_the_backend_takes_it() -> None:
    assert CpuOps().n_threads == default_threads()
    assert CpuOps(threads=3).n_threads == 3
