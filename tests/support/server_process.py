"""`espalier serve` as its users run it: a process of its own on a real port, found by the line it prints."""

import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

START_SECONDS = 30.0
ROOT = Path(__file__).resolve().parents[2]
_PROGRAM = "from tools.cli import main; main()"
_URL = re.compile(r"serving at (http://\S+)/v1")


@dataclass
class ServerProcess:
    """A running server. `lines` is what it wrote to stderr so far."""

    process: subprocess.Popen[str]
    url: str = ""
    lines: list[str] = field(default_factory=list)
    reader: threading.Thread | None = None

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def terminate(self) -> None:
        """SIGTERM; does not wait."""
        self.process.send_signal(signal.SIGTERM)

    def wait(self, seconds: float = 20.0) -> int:
        """The exit status."""
        status = self.process.wait(seconds)
        if self.reader is not None:
            self.reader.join(5)
        return status

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line.rstrip("\n"))
            found = _URL.search(line)
            if found:
                self.url = found[1]


def launch(model: Path | None, *flags: str, program: str = _PROGRAM) -> ServerProcess:
    """Start it without waiting for anything. model None: with none, so that it serves the demo. program: Python."""
    named = [] if model is None else [str(model)]
    command = [sys.executable, "-c", program, "serve", *named, "--port", "0", "--threads", "2", *flags]
    process = subprocess.Popen(
        command, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    server = ServerProcess(process)
    server.reader = threading.Thread(target=server._read, daemon=True)
    server.reader.start()
    return server


@contextmanager
def running_server(model: Path | None, *flags: str, program: str = _PROGRAM) -> Iterator[ServerProcess]:
    """A server that answers; gone at the end, whatever happened."""
    server = launch(model, *flags, program=program)
    try:
        end = time.monotonic() + START_SECONDS
        while not server.url:
            if server.process.poll() is not None or time.monotonic() > end:
                raise AssertionError("the server did not start:\n" + "\n".join(server.lines))
            time.sleep(0.02)
        yield server
    finally:
        server.process.kill()
        server.wait()
