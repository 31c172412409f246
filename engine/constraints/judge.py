"""Tries forms in a process of their own, with limits of time and memory that a library cannot overrun.

llguidance counts its work, but not all of it: measured with 1.9.1, sixty patterns under one allOf and a multipleOf of
a million compile for more than ten seconds, and 60 000 rules that lead one to the next overflow the stack.
"""

import atexit
import json
import select
import signal
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO, Any, NamedTuple

from engine.constraints.limits import CPU_SECONDS, LIMITS, MEMORY_BYTES
from engine.errors import QueueFullError

PROGRAM = Path(__file__).with_name("judge_process.py")
REPLY_SECONDS = 8.0  # of a job whose process gets a twentieth of a processor
WAIT_SECONDS = 10.0  # for those that came before


class Verdict(NamedTuple):
    error: str | None  # the compiler's own words, or ours for a form that broke its limits
    memory_bytes: int = 0  # that compiling took


class Judge:
    """One job at a time, from any thread. The process starts with the first one, and ends with this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        atexit.register(self.close)

    def verdict(self, grammar: str, cancelled: threading.Event | None = None) -> Verdict:
        """Raises QueueFullError when too many forms wait, or when nobody does for this one any more."""
        self._wait_turn(cancelled)
        try:
            return self._answered(grammar)
        finally:
            self._lock.release()

    def close(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()

    def _wait_turn(self, cancelled: threading.Event | None) -> None:
        until = time.monotonic() + WAIT_SECONDS
        while not self._lock.acquire(timeout=0.1):
            if time.monotonic() > until or (cancelled is not None and cancelled.is_set()):
                raise QueueFullError(
                    "too many forms wait to be compiled; ask again in a second", retry_after_s=1
                )

    def _answered(self, grammar: str) -> Verdict:
        job = {
            "grammar": grammar,
            "limits": LIMITS,
            "cpu_seconds": CPU_SECONDS,
            "memory_bytes": MEMORY_BYTES,
        }
        for _ in range(2):  # a process that somebody has ended is started anew, once
            try:
                return _verdict(_exchange(self._running(), job))
            except (OSError, EOFError):
                self.close()
        return Verdict("cannot be compiled now: the process that tries forms has ended")

    def _running(self) -> "subprocess.Popen[bytes]":
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-P", str(PROGRAM)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # an interrupt from the keyboard is this process's to handle
            )
        return self._process


def _exchange(process: "subprocess.Popen[bytes]", job: Any) -> Any:
    """The answer; {"signal": SIGKILL} for a process that gives none in time, which is ended."""
    assert process.stdin is not None
    assert process.stdout is not None
    data = json.dumps(job).encode()
    process.stdin.write(struct.pack("<I", len(data)) + data)
    process.stdin.flush()
    if not select.select([process.stdout], [], [], REPLY_SECONDS)[0]:
        process.kill()
        raise EOFError
    return json.loads(_whole(process.stdout, struct.unpack("<I", _whole(process.stdout, 4))[0]))


def _whole(stream: IO[bytes], n_bytes: int) -> bytes:
    data = stream.read(n_bytes)
    if len(data) < n_bytes:
        raise EOFError
    return data


def _verdict(answer: Any) -> Verdict:
    number = answer.get("signal")
    if number is None:
        return Verdict(answer["error"], answer["memory"])
    if number in (signal.SIGPROF, signal.SIGXCPU):
        return Verdict(f"takes longer than {CPU_SECONDS:g} s to compile; a simpler form works")
    return Verdict("needs too much memory to compile, or is nested too deeply; a simpler form works")
