"""Threads for work on texts: JSON, templates, tokens, forms. Bounded, so that long prompts leave cores to the engine.

Long texts wait for each other in a lane of their own; short ones do not wait for long ones. Nobody works on for a
client that has left: the wait for a text is cancelled with its request, and the worker looks at a flag.
"""

import asyncio
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Result = TypeVar("Result")

LONG_TEXT = 1 << 16  # characters or bytes
MAX_WORKERS = 4  # of each lane; the tokenizers' own loops need no more to keep up with any engine


class TextPool:
    """Lanes of threads, which live as long as the process."""

    def __init__(self) -> None:
        n_cores = len(os.sched_getaffinity(0))
        self._short = ThreadPoolExecutor(min(n_cores, MAX_WORKERS), "short-text")
        self._long = ThreadPoolExecutor(max(1, min(n_cores // 2, MAX_WORKERS)), "long-text")
        self._forms = ThreadPoolExecutor(1, "forms")

    async def run(self, size: int, work: Callable[[threading.Event], Result]) -> Result:
        """The result of work(cancelled), off the event loop. size: characters or bytes it works on."""
        return await _run(self._long if size > LONG_TEXT else self._short, work)

    async def run_form(self, work: Callable[[threading.Event], Result]) -> Result:
        """The same for work on the form of an answer, one at a time: it may take half a second, whatever its size."""
        return await _run(self._forms, work)


async def _run(lane: ThreadPoolExecutor, work: Callable[[threading.Event], Result]) -> Result:
    cancelled = threading.Event()
    try:
        return await asyncio.get_running_loop().run_in_executor(lane, work, cancelled)
    finally:
        cancelled.set()
