"""Whether some work lets other Python threads run."""

import threading
import time
from collections.abc import Callable


def share_of_longest_pause(work: Callable[[], object]) -> float:
    """The longest time that this thread stood still while another did the work, as a share of the work's time.

    About 1 for work that keeps the interpreter's lock; a busy machine stretches both.
    """
    seconds: list[float] = []

    def timed() -> None:
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)

    thread = threading.Thread(target=timed)
    longest, last = 0.0, time.perf_counter()
    thread.start()
    while not seconds:
        now = time.perf_counter()
        longest, last = max(longest, now - last), now
    thread.join()
    return max(longest, time.perf_counter() - last) / seconds[0]
