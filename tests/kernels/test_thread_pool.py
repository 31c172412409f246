"""The threads of a parallel loop: each chunk once, nobody burns a CPU while idle, a crowded machine gets through.

Nothing here is timed on a clock that other processes can hold up: CPU time is counted, and work is.
"""

import os
import subprocess
import sys
import time

import pytest

from kernels.cpu._native import Ceilings

N_CPUS = len(os.sched_getaffinity(0))
CROWD = 4 * N_CPUS
BUSY = "while True: pass"
LOOPS = "from kernels.cpu._native import Ceilings; print(Ceilings({}, '').loops({}, 16))"


@pytest.mark.parametrize("threads", [1, 2, 3, N_CPUS, CROWD])
@pytest.mark.parametrize("n_chunks", [0, 1, 2, 3, 100])
def test_every_chunk_of_every_loop_runs_once(threads: int, n_chunks: int) -> None:
    assert Ceilings(threads, "").loops(500, n_chunks) == 500 * n_chunks


def test_an_idle_pool_takes_no_cpu_time() -> None:
    """Workers spin for some 50 microseconds after a loop and then sleep: half a second of spinning would show."""
    pools = [Ceilings(N_CPUS + 1, ""), Ceilings(max(N_CPUS, 2), "")]
    for pool in pools:
        assert pool.loops(100, 16) == 1600
    before = time.process_time()
    time.sleep(0.5)
    assert time.process_time() - before < 0.1


def test_a_crowded_machine_gets_through() -> None:
    """Four threads a CPU beside a process for each CPU that never rests: what is asked for is done, and by CPU time
    a loop costs about what waking and switching threads does, not what spinning for a turn of the scheduler would
    (a few milliseconds each)."""
    busy = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(N_CPUS)]
    try:
        pool, n_loops = Ceilings(CROWD, ""), 2000
        before = time.process_time()
        assert pool.loops(n_loops, 2 * CROWD) == n_loops * 2 * CROWD
        assert time.process_time() - before < n_loops * 1e-3
    finally:
        for process in busy:
            process.kill()
            process.wait()


def test_two_pools_of_every_cpu_both_get_through() -> None:
    """Two servers on one machine: neither waits for ever for a CPU on which the other spins."""
    command = [sys.executable, "-c", LOOPS.format(max(N_CPUS, 2), 20_000)]
    pair = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    try:
        assert [process.communicate(timeout=120)[0] for process in pair] == ["320000\n"] * 2
    finally:
        for process in pair:
            process.kill()
            process.wait()
