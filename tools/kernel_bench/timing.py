"""Seconds of repeated calls, and how many bytes outgrow the caches."""

import time
from collections.abc import Callable
from pathlib import Path

MIN_CALLS = 3
LONG_S = 1.0
MOST_BYTES = 1 << 30
MOST_COPIES = 256  # a smaller matrix is nobody's bottleneck
USUAL_CACHE_BYTES = 32 << 20  # where the machine does not say
_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")


def seconds_of(call: Callable[[], object], budget_s: float) -> list[float]:
    """Of each call, after one that warms up; calls go on until the budget is spent, three unless they are long."""
    call()
    seconds: list[float] = []
    spent = 0.0
    while spent < budget_s or (len(seconds) < MIN_CALLS and spent < LONG_S):
        started = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - started)
        spent += seconds[-1]
    return seconds


def last_level_cache_bytes() -> int:
    sizes = []
    for file in _CACHES.glob("index*/size"):
        text = file.read_text().strip()
        if text.endswith("K") and text[:-1].isdigit():
            sizes.append(int(text[:-1]) << 10)
    return max(sizes, default=USUAL_CACHE_BYTES)


def bytes_beyond_caches() -> int:
    """Several times the last level: of twice its size, read round and round, it still held a third (measured)."""
    return min(8 * last_level_cache_bytes(), MOST_BYTES)


def copies_beyond_caches(nbytes: int) -> int:
    """Copies that are used in turns, so that none is in a cache when its turn comes."""
    return min(1 + bytes_beyond_caches() // nbytes, MOST_COPIES)
