"""The sentences of data/frames.txt, by what they are put around."""

from functools import cache
from pathlib import Path

_FILE = Path(__file__).parent / "data" / "frames.txt"


@cache
def frames(kind: str) -> tuple[str, ...]:
    """kind: v (something to do), n (something to know), s (how things are), < (openers) or > (closers)."""
    lines = _FILE.read_text(encoding="utf-8").splitlines()
    return tuple(line[2:] for line in lines if line.startswith(f"{kind} "))
