"""Coverage-guided fuzzing of the GGUF reader, the tokenizer builder and the template renderer (support/fuzz.py).

A slice of it in the slow suite; `make fuzz` gives each target ten minutes, or FUZZ_SECONDS of them.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TARGETS = ("reader", "tokenizer", "template")
SECONDS = int(os.environ.get("ESPALIER_FUZZ_SECONDS", "10"))
#: A rendering may take a second of processor time; coverage and a busy machine take their part on top.
LIMITS = ("-timeout=20", "-rss_limit_mb=512", "-max_len=4096")
#: The peak of memory that libFuzzer looks at begins with that of the process which started it, and a worker of the
#: tests may have held a gigabyte: a shell, which is small, stands between.
SHELL = ("/bin/sh", "-c", '"$@"; exit $?', "sh")


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_whatever_is_read_only_our_own_errors_escape(tmp_path: Path, target: str) -> None:
    command = [*SHELL, sys.executable, "-m", "support.fuzz", target, f"-max_total_time={SECONDS}", *LIMITS]
    command.append(f"-artifact_prefix={tmp_path}/")
    tests = Path(__file__).resolve().parents[1]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join((str(tests), str(tests.parent)))}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-6000:]
    assert "NEW    cov:" in done.stderr  # else the code is not instrumented
