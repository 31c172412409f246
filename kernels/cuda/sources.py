"""Which files a .cu file is made of: what a cached build depends on."""

import hashlib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

_INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.MULTILINE)


def included_files(source: Path, include_folders: Sequence[Path]) -> list[Path]:
    """`source` and every file it includes in quotes, theirs too, sorted. A name that is found nowhere is left out:
    the compiler will say so, or a condition keeps it away.
    """
    found: dict[Path, None] = {}
    pending = [source]
    while pending:
        path = pending.pop()
        if path in found:
            continue
        found[path] = None
        for name in _INCLUDE.findall(path.read_text(encoding="utf-8")):
            candidates = (folder / name for folder in (path.parent, *include_folders))
            pending.extend(candidate for candidate in candidates if candidate.is_file())
    return sorted(found)


def digest(files: Iterable[Path], *settings: str) -> str:
    """A hex digest of the files' contents and of the settings (compiler, options, defines) they are built with."""
    state = hashlib.sha256(repr(settings).encode())
    for path in files:
        state.update(hashlib.sha256(path.read_bytes()).digest())
    return state.hexdigest()[:32]
