"""The peer's llama-bench as a process: found in a build folder, run once, its JSON read.

The peer is ik_llama.cpp, built outside this checkout. It loads the file anew each time, which it does not count, and
warms up by itself. Whatever goes wrong with it is one line that ends with what it said last.
"""

import json
import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from engine import EspalierError

TIMEOUT_S = 1800.0  # of one run: minutes for the largest model on the slowest tier
MAX_SHOWN = 200  # characters of the peer's last line


class PeerTest(NamedTuple):
    """n_prompt tokens timed (n_gen 0), or n_gen after n_prompt that are not (0: from an empty context)."""

    n_prompt: int
    n_gen: int

    def arguments(self) -> list[str]:
        if self.n_prompt and self.n_gen:
            return ["-gp", f"{self.n_prompt},{self.n_gen}"]
        return ["-p", str(self.n_prompt)] if self.n_prompt else ["-n", str(self.n_gen)]


def find_llama_bench(folder: Path) -> Path:
    """The program in a build folder or its bin. Raises EspalierError where there is none."""
    for candidate in (folder / "llama-bench", folder / "bin" / "llama-bench"):
        if candidate.is_file() and os.access(candidate, os.X_OK):
            return candidate.resolve()
    raise EspalierError(
        f"--peer {folder}: no llama-bench that can be run in it or in its bin; name the folder in which "
        "ik_llama.cpp's target llama-bench was built"
    )


class PeerBench:
    """options: of every run, beside the model and the test."""

    def __init__(
        self, program: Path, model: Path, options: Sequence[str], timeout_s: float = TIMEOUT_S
    ) -> None:
        self._command = [str(program), "-m", str(model), *options, "-r", "1", "-o", "json"]
        self._timeout_s = timeout_s

    def run(self, test: PeerTest) -> float:
        """Tokens per second of one repetition. Raises EspalierError."""
        # Without both, llama-bench would add its own prompt and generation tests.
        asked = ["-p", "0", "-n", "0", *test.arguments()]
        output = self._output(asked)
        try:
            results = json.loads(output)
            speeds = [
                float(r["avg_ts"]) for r in results if (int(r["n_prompt"]), int(r["n_gen"])) == tuple(test)
            ]
        except (ValueError, TypeError, KeyError):
            raise EspalierError(
                f"the peer printed no results that can be read: {_last_line(output)}"
            ) from None
        if len(speeds) != 1 or not speeds[0] > 0:
            raise EspalierError(
                f"the peer has no speed for {' '.join(test.arguments())}: {_last_line(output)}"
            )
        return speeds[0]

    def _output(self, asked: list[str]) -> str:
        try:
            done = subprocess.run(
                [*self._command, *asked],
                capture_output=True, timeout=self._timeout_s, check=False, stdin=subprocess.DEVNULL,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise EspalierError(
                f"the peer did not end within {self._timeout_s:g} seconds and was stopped"
            ) from None
        except OSError as error:
            raise EspalierError(f"the peer cannot be started: {error.strerror or error}") from None
        output, messages = (text.decode("utf-8", "replace") for text in (done.stdout, done.stderr))
        if done.returncode:
            raise EspalierError(f"the peer {_ending(done.returncode)}: {_last_line(messages or output)}")
        return output


def _ending(status: int) -> str:
    if status >= 0:
        return f"ended with status {status}"
    return f"was ended by {signal.Signals(-status).name}"


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return _printable(lines[-1].strip())[:MAX_SHOWN] if lines else "it said nothing"


def _printable(line: str) -> str:
    """What a foreign program said must not speak to the terminal."""
    return "".join(c if c.isprintable() else "?" for c in line)


def peer_options(ops: Any, kv_type: str) -> list[str]:
    """Conditions as ours: the backend's threads, no layer on a GPU, the type of cached keys and values."""
    place = ["-t", str(ops.n_threads), "-ngl", "0"] if ops.name == "cpu" else ["-ngl", "999"]
    return [*place, "-ctk", kv_type, "-ctv", kv_type]
