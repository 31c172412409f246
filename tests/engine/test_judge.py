"""The process that tries forms: what breaks its limits ends there, and it outlives nobody."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from engine.constraints.judge import Judge
from engine.errors import QueueFullError

OPTIONS = '\n%llguidance {"no_forcing": true}'
GOOD = 'start: "a"' + OPTIONS
DEEP = "start: r0\n" + "\n".join(f"r{i}: r{i + 1} r{i + 1}" for i in range(900)) + '\nr900: "a"' + OPTIONS


@pytest.fixture
def judge() -> Iterator[Judge]:
    made = Judge()
    yield made
    made.close()


def pid_of(judge: Judge) -> int:
    assert judge._process is not None
    return judge._process.pid


def test_a_form_that_overflows_the_stack_harms_nobody(judge: Judge) -> None:
    verdict = judge.verdict(DEEP)
    assert verdict.error is not None
    assert "nested too deeply" in verdict.error
    before = pid_of(judge)
    assert judge.verdict(GOOD).error is None
    assert pid_of(judge) == before


def test_a_form_that_takes_too_long_is_given_up(judge: Judge) -> None:
    started = time.process_time()
    patterns = " & ".join(f"/(.*a){{{i}}}.*/" for i in range(1, 60))
    verdict = judge.verdict(f"start: T\nT: {patterns}{OPTIONS}")
    assert verdict.error is not None
    assert "takes longer" in verdict.error or "memory" in verdict.error
    assert time.process_time() - started < 1  # of this process, which only waits


def test_a_process_that_somebody_ends_is_started_anew(judge: Judge) -> None:
    assert judge.verdict(GOOD).error is None
    os.kill(pid_of(judge), signal.SIGKILL)
    assert judge.verdict(GOOD).error is None


def test_who_waits_for_nobody_gives_up_its_turn(judge: Judge) -> None:
    gone = threading.Event()
    gone.set()
    with judge._lock, pytest.raises(QueueFullError):
        judge.verdict(GOOD, gone)


def test_the_process_ends_with_the_one_that_started_it() -> None:
    program = (
        "from engine.constraints.judge import Judge; import time; judge = Judge(); "
        f"judge.verdict({GOOD!r}); print(judge._process.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()
    until = time.monotonic() + 20
    while is_running(pid) and time.monotonic() < until:
        time.sleep(0.05)
    assert not is_running(pid)


def is_running(pid: int) -> bool:
    """Not a process that has ended and that nobody has asked about."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
