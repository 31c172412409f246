"""Which control groups bound this process: its own and all above it, for one controller, in both versions.

/proc/self/cgroup says where the process is in each hierarchy, /proc/self/mountinfo where a hierarchy is mounted and
which of its groups is that mount's root. In a container the root is often the container's own group, whatever the
path says; a path that leaves the mount, or the namespace (a part is ".."), is known by its mount's root only.
"""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

FOLDER = "sys/fs/cgroup"  # where every distribution mounts them


class _Mount(NamedTuple):
    """One cgroup mount. group: the group that the mount point shows; controllers: empty for version 2."""

    point: Path
    group: PurePosixPath
    controllers: frozenset[str]


def group_folders(root: Path, controller: str) -> Iterator[Path]:
    """Folders of the groups with a say in `controller` ("cpu", "memory"), the process's own before its parents'.

    root: where proc and sys are. The folders need not exist: on a machine without control groups none does.
    """
    mounts = _mounts(root)
    seen: set[Path] = set()
    for controllers, path in _own_paths(root):
        if controllers and controller not in controllers:
            continue
        own = [m for m in mounts if (controller in m.controllers if controllers else not m.controllers)]
        for mount in (*own, *_usual_mounts(root, controllers, {m.point for m in mounts})):
            for folder in _from_own_to_root(mount, path):
                if folder not in seen:
                    seen.add(folder)
                    yield folder


def _own_paths(root: Path) -> Iterator[tuple[list[str], PurePosixPath]]:
    """The process's group in each hierarchy, beside the hierarchy's controllers; version 2 has none named."""
    for line in _lines(root / "proc/self/cgroup"):
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        yield controllers.split(",") if controllers else [], PurePosixPath(path or "/")


def _mounts(root: Path) -> list[_Mount]:
    """proc(5): ID, parent, device, root, mount point, options, fields up to "-", type, source, super options."""
    mounts = []
    for line in _lines(root / "proc/self/mountinfo"):
        mount, _, filesystem = line.partition(" - ")
        words, kind = mount.split(), filesystem.split()
        if len(words) < 5 or len(kind) < 3 or kind[0] not in ("cgroup", "cgroup2"):
            continue
        controllers = frozenset(kind[2].split(",")) if kind[0] == "cgroup" else frozenset()
        point = root / _unescaped(words[4]).lstrip("/")
        mounts.append(_Mount(point, PurePosixPath(_unescaped(words[3])), controllers))
    return mounts


def _usual_mounts(root: Path, controllers: list[str], known: set[Path]) -> Iterator[_Mount]:
    """The usual mount points of a hierarchy, where mountinfo (which may be hidden) has nothing on them."""
    names = [",".join(controllers), *controllers] if controllers else ["", "unified"]
    for point in (root / FOLDER / name for name in dict.fromkeys(names)):
        if point not in known:
            yield _Mount(point, PurePosixPath("/"), frozenset(controllers))


def _from_own_to_root(mount: _Mount, path: PurePosixPath) -> Iterator[Path]:
    """The mount's folder of group `path`, then its parents' up to the mount point."""
    if ".." not in path.parts and ".." not in mount.group.parts and path.is_relative_to(mount.group):
        inside = path.relative_to(mount.group)
        for part in (inside, *inside.parents):
            yield mount.point / part
    yield mount.point


def _unescaped(text: str) -> str:
    """mountinfo writes a space, tab, line feed and backslash as three octal digits after a backslash."""
    for character in " \t\n\\":
        text = text.replace(f"\\{ord(character):03o}", character)
    return text


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        return []
