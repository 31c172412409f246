"""How the command ends when it is told to, or when nobody takes its output: one line at most, and a status."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from support.tiny_models import write_tiny_llama

MAIN = "from tools.cli import main; main()"
#: A load that lasts, and says when it has begun.
SLOW = (
    "import sys, time, tools.{0} as command\n"
    "def load(*args, **options):\n"
    "    print('loading', file=sys.stderr, flush=True)\n"
    "    time.sleep(60)\n"
    "command.load_model = load\n" + MAIN
)
DISK_FULL = "espalier: standard output cannot be written: No space left on device"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_llama(tmp_path_factory.mktemp("model") / "m.gguf")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "number", "status"),
    [("serve", signal.SIGTERM, 143), ("serve", signal.SIGINT, 130), ("chat", signal.SIGTERM, 143)],
)
def test_a_signal_while_loading_is_a_line_and_the_shells_status(
    model: Path, command: str, number: signal.Signals, status: int
) -> None:
    options = ["--port", "0"] if command == "serve" else []
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW.format(command), command, str(model), *options],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    assert process.stderr.readline() == "loading\n"
    process.send_signal(number)
    assert process.wait(10) == status
    assert process.stderr.read() == f"espalier: stopped by {number.name}\n"
    process.stderr.close()


@pytest.mark.parametrize("arguments", [("inspect", "MODEL"), ("--version",),
                                       ("bench", "MODEL", "-p", "4", "-n", "0", "-r", "1", "--json")])  # fmt: skip
def test_a_full_disk_is_one_line(model: Path, arguments: tuple[str, ...]) -> None:
    command = [sys.executable, "-c", MAIN, *(str(model) if a == "MODEL" else a for a in arguments)]
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False
        )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1:] == [DISK_FULL]
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


@pytest.mark.parametrize("arguments", [("inspect", "MODEL"), ("--version",)])
def test_a_reader_that_has_gone_is_told_nothing(model: Path, arguments: tuple[str, ...]) -> None:
    command = [sys.executable, "-c", MAIN, *(str(model) if a == "MODEL" else a for a in arguments)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(30) == 1
    process.stderr.close()
