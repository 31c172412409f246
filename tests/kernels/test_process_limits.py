"""The default number of threads and the memory there is, on machines and in containers made of files."""

from pathlib import Path

import pytest

from kernels.cpu.ops import CpuOps
from kernels.process_limits import MemoryRoom, available_memory, default_threads

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


MIB = 1 << 20
UNIT = "system.slice/espalier.service"
V1_NONE = (1 << 63) - 4096  # how version 1 writes "no limit", with pages of 4 KiB


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """A machine with 8 GiB available, and nothing else that bounds the process."""
    write(tmp_path / "proc/meminfo", f"MemFree: 100 kB\nMemAvailable: {8 << 20} kB\nBuffers: 9 kB")
    write(tmp_path / "proc/self/cgroup", "0::/")
    return tmp_path


def mount(root: Path, *mounts: tuple[str, str, str]) -> None:
    """proc/self/mountinfo with (mount point, group at it, "cgroup2" or the controllers of version 1)."""
    lines = [
        f"{30 + i} 23 0:{28 + i} {group} {point} rw,nosuid shared:9 - "
        + ("cgroup2 cgroup2 rw,nsdelegate" if kind == "cgroup2" else f"cgroup cgroup rw,{kind}")
        for i, (point, group, kind) in enumerate(mounts)
    ]
    write(root / "proc/self/mountinfo", "\n".join(["22 1 8:1 / / rw - ext4 /dev/sda1 rw", *lines]))


def group_v2(folder: Path, limit: str, used: int = 0, cache: int = 0, high: str = "max") -> None:
    """cache is divided between the two lists, in the middle of a memory.stat with lines that do not count."""
    write(folder / "memory.max", limit)
    write(folder / "memory.high", high)
    write(folder / "memory.current", str(used))
    write(
        folder / "memory.stat",
        f"anon 7\nfile {cache}\nshmem 5\ninactive_file {cache // 2}\nactive_file {cache - cache // 2}",
    )


def group_v1(folder: Path, limit: int, used: int = 0, cache: int = 0, above: int = V1_NONE) -> None:
    write(folder / "memory.limit_in_bytes", str(limit))
    write(folder / "memory.usage_in_bytes", str(used))
    write(
        folder / "memory.stat",
        f"inactive_file 3\nactive_file 3\nhierarchical_memory_limit {min(above, limit)}\n"
        f"total_inactive_file {cache}\ntotal_active_file 0",
    )


def test_without_a_limit_it_is_what_the_machine_has_available(host: Path) -> None:
    assert available_memory(host) == MemoryRoom(8 << 30)
    group_v2(host / "sys/fs/cgroup", "max", used=7 << 30)
    group_v1(host / "sys/fs/cgroup/memory", V1_NONE, used=7 << 30)
    assert available_memory(host) == MemoryRoom(8 << 30)


def test_this_machine_has_some() -> None:
    assert 2**20 < available_memory().n_bytes < 2**50


def test_a_container_is_shown_its_own_group_as_the_mounts_root(host: Path) -> None:
    mount(host, ("/sys/fs/cgroup", "/", "cgroup2"))
    group_v2(host / "sys/fs/cgroup", str(700 * MIB), used=100 * MIB)
    room = available_memory(host)
    assert room == MemoryRoom(600 * MIB, str(host / "sys/fs/cgroup/memory.max"), 700 * MIB)


def test_page_cache_that_can_be_given_up_is_free(host: Path) -> None:
    group_v2(host / "sys/fs/cgroup", str(1024 * MIB), used=1023 * MIB, cache=923 * MIB)
    assert available_memory(host).n_bytes == 924 * MIB


def test_a_limit_that_is_exceeded_leaves_nothing(host: Path) -> None:
    group_v2(host / "sys/fs/cgroup", str(10 * MIB), used=12 * MIB, cache=1 * MIB)
    assert available_memory(host).n_bytes == 0


@pytest.mark.parametrize("level", [UNIT, "system.slice"])
def test_a_units_limit_and_its_slices_bound_it(host: Path, level: str) -> None:
    """MemoryMax= is a limit of the unit's own group, which is not the mount's root."""
    write(host / "proc/self/cgroup", f"0::/{UNIT}")
    mount(host, ("/sys/fs/cgroup", "/", "cgroup2"))
    for folder in ("system.slice", UNIT):
        group_v2(host / "sys/fs/cgroup" / folder, "max", used=50 * MIB)
    group_v2(host / "sys/fs/cgroup" / level, str(500 * MIB), used=50 * MIB)
    group_v2(host / "sys/fs/cgroup/system.slice/other.service", str(60 * MIB), used=50 * MIB)
    assert available_memory(host).n_bytes == 450 * MIB


def test_the_least_room_holds_not_the_least_limit(host: Path) -> None:
    """A parent's usage includes its other children's."""
    write(host / "proc/self/cgroup", "0::/pod/box")
    group_v2(host / "sys/fs/cgroup/pod", str(900 * MIB), used=800 * MIB)
    group_v2(host / "sys/fs/cgroup/pod/box", str(300 * MIB), used=50 * MIB)
    room = available_memory(host)
    assert (room.n_bytes, room.limit_bytes) == (100 * MIB, 900 * MIB)


def test_memory_high_bounds_it_too(host: Path) -> None:
    """Beyond it a process is not killed, but each page waits for another one to be given up."""
    group_v2(host / "sys/fs/cgroup", str(900 * MIB), used=100 * MIB, high=str(400 * MIB))
    assert available_memory(host).limit.endswith("memory.high")
    assert available_memory(host).n_bytes == 300 * MIB


@pytest.mark.parametrize("mounted", [True, False], ids=["in mountinfo", "without mountinfo"])
def test_version_1_bounds_it_with_the_whole_groups_cache(host: Path, mounted: bool) -> None:
    write(host / "proc/self/cgroup", "4:memory:/docker/12\n1:cpu:/\n0::/")
    if mounted:
        mount(host, ("/sys/fs/cgroup/memory", "/", "memory"), ("/sys/fs/cgroup/unified", "/", "cgroup2"))
    group_v1(host / "sys/fs/cgroup/memory", V1_NONE, used=6 << 30)
    group_v1(host / "sys/fs/cgroup/memory/docker/12", 700 * MIB, used=650 * MIB, cache=600 * MIB)
    assert available_memory(host).n_bytes == 650 * MIB


def test_version_1_tells_of_limits_above_what_a_container_sees(host: Path) -> None:
    write(host / "proc/self/cgroup", "4:memory:/kubepods/pod1/c1")
    mount(host, ("/sys/fs/cgroup/memory", "/kubepods/pod1/c1", "memory"))
    group_v1(host / "sys/fs/cgroup/memory", V1_NONE, used=20 * MIB, above=200 * MIB)
    room = available_memory(host)
    assert room.n_bytes == 180 * MIB
    assert "hierarchical_memory_limit" in room.limit


@pytest.mark.parametrize(
    ("path", "group", "place"),
    [
        ("/docker/12", "/docker/12", "."),  # the mount shows the container's own group
        ("/docker/12/inner", "/docker/12", "inner"),
        ("/docker/12", "/", "docker/12"),  # the host's whole hierarchy
        ("/../../other", "/", "."),  # joined from another namespace
        ("/", "/..", "."),  # mounted before the namespace was made
    ],
)
def test_the_mounts_root_tells_where_the_group_lies(host: Path, path: str, group: str, place: str) -> None:
    write(host / "proc/self/cgroup", f"0::{path}")
    mount(host, ("/sys/fs/cgroup", group, "cgroup2"))
    group_v2(host / "sys/fs/cgroup" / place, str(64 * MIB), used=1 * MIB)
    assert available_memory(host).n_bytes == 63 * MIB


def test_a_child_of_the_same_name_is_not_ours(host: Path) -> None:
    """A container engine inside a container has groups of its own under the name that ours has outside."""
    write(host / "proc/self/cgroup", "0::/docker/12")
    mount(host, ("/sys/fs/cgroup", "/docker/12", "cgroup2"))
    group_v2(host / "sys/fs/cgroup/docker", str(5 * MIB))
    assert available_memory(host) == MemoryRoom(8 << 30)


def test_unusual_mount_points_are_found(host: Path) -> None:
    write(host / "proc/self/cgroup", "0::/a b")
    mount(host, ("/mnt/my\\040groups", "/", "cgroup2"))
    group_v2(host / "mnt/my groups/a b", str(64 * MIB))
    assert available_memory(host).n_bytes == 64 * MIB


@pytest.mark.parametrize(
    ("name", "used", "shell"),
    [("Max address space", "VmSize", "ulimit -v"), ("Max data size", "VmData", "ulimit -d")],
)
def test_the_processs_own_limits_bound_it(host: Path, name: str, used: str, shell: str) -> None:
    write(
        host / "proc/self/limits",
        f"Limit   Soft Limit   Hard Limit   Units\n{name}  {300 * MIB}  unlimited  bytes",
    )
    write(host / "proc/self/status", f"Name:\tpython\n{used}:\t  {100 << 10} kB")
    assert available_memory(host) == MemoryRoom(200 * MIB, shell, 300 * MIB)


@pytest.mark.parametrize("text", ["", "max", "-1", "lots", "1 2"])
def test_a_memory_limit_that_cannot_be_read_is_none(host: Path, text: str) -> None:
    group_v2(host / "sys/fs/cgroup", text, used=5)
    assert available_memory(host) == MemoryRoom(8 << 30)
    group_v2(host / "sys/fs/cgroup", "100")
    write(host / "sys/fs/cgroup/memory.current", text)
    assert available_memory(host) == MemoryRoom(8 << 30)


def test_quota_of_the_own_group_under_an_unusual_mount(machine: Path) -> None:
    """CPU time and memory ask the same function for the groups."""
    write(machine / "proc/self/cgroup", "3:cpu,cpuacct:/box")
    mount(machine, ("/dev/cgroup/cpu", "/", "cpu,cpuacct"))
    write(machine / "dev/cgroup/cpu/box/cpu.cfs_quota_us", "100000")
    write(machine / "dev/cgroup/cpu/box/cpu.cfs_period_us", "100000")
    assert default_threads(machine, ALL) == 1
