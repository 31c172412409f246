"""Every command that README and docs/ show is run, in the order of its page, in a folder like its reader's.

A command stands in a ```sh block. One that this machine cannot run has a comment `<!-- not run: REASON -->` above its
block. Names that stand for the reader's own files (MODEL.gguf, TEXT.txt) are there.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from support.server_process import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
#: Commands that cannot be part of a test run.
NOT_HERE = {
    "make test": "it is what runs this test",
    "make test-slow": "it is what runs this test",
    "make check": "it runs the tests",
    "make clean": "it would take the environment from under this test",
}
#: The environment is the checkout's own. Were it installed anew from the reader's folder, it would be gone with that.
MAKE = "make -o .venv/build-tools -o .venv/installed -o .venv/installed-dev"
BLOCK = re.compile(r"(<!-- not run: [^\n]+ -->\n)?```sh\n(.*?)```", re.DOTALL)
TEXT = "Once upon a time there was a server that read trellis files. " * 60


class Block(NamedTuple):
    """One ```sh block of a page."""

    commands: list[str]
    excused: bool


def blocks(page: Path) -> list[Block]:
    found = BLOCK.findall(page.read_text())
    return [Block(commands_of(text), bool(excuse)) for excuse, text in found]


def commands_of(text: str) -> list[str]:
    """The block's commands; a line that ends with a backslash goes on."""
    joined = text.replace("\\\n", " ")
    without_remarks = (re.sub(r"\s+#\s.*", "", line).strip() for line in joined.splitlines())
    return [line for line in without_remarks if line and not line.startswith("#")]


def test_pages_have_commands_and_excuses_are_few() -> None:
    all_blocks = [block for page in PAGES for block in blocks(page)]
    assert len(all_blocks) > 8
    assert sum(block.excused for block in all_blocks) <= len(all_blocks) / 2


@pytest.fixture
def reader_folder(tmp_path: Path) -> Path:
    """The checkout as its reader has it, with a model and a text of their own."""
    for entry in ROOT.iterdir():
        if entry.name not in (".git", "build"):
            (tmp_path / entry.name).symlink_to(entry)
    demo = next((ROOT / "tools").rglob("espalier-demo*.gguf"))
    for name in ("MODEL.gguf", "model.gguf"):
        shutil.copy(demo, tmp_path / name)
    (tmp_path / "TEXT.txt").write_text(TEXT)
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p)], ids=lambda p: p.name)
def test_every_command_of_the_page_works(page: Path, reader_folder: Path) -> None:
    with free_port() as port:
        environ = os.environ | {
            "PATH": f"{ROOT / '.venv' / 'bin'}:{os.environ['PATH']}",
            "ESPALIER_PORT": str(port),
            "OPENAI_BASE_URL": f"http://127.0.0.1:{port}/v1",
            "OPENAI_API_KEY": "none",
        }
        servers: list[subprocess.Popen[str]] = []
        try:
            for block in blocks(page):
                for command in [] if block.excused else block.commands:
                    if command not in NOT_HERE:
                        run(
                            re.sub(r"^make\b", MAKE, command).replace("127.0.0.1:8000", f"127.0.0.1:{port}"),
                            reader_folder,
                            environ,
                            servers,
                        )
        finally:
            stop(servers)


def run(command: str, folder: Path, environ: dict[str, str], servers: list[subprocess.Popen[str]]) -> None:
    if re.match(r"(make|espalier)( -o \S+)* serve\b(?!.*--help)", command):
        stop(servers)
        servers.append(serving(command, folder, environ))
        return
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=folder, env=environ, text=True, capture_output=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"


def serving(command: str, folder: Path, environ: dict[str, str]) -> subprocess.Popen[str]:
    """A server in the background, once it is ready."""
    process = subprocess.Popen(
        ["bash", "-c", f"exec {command}"], cwd=folder, env=environ, text=True, start_new_session=True
    )
    for _ in range(600):
        assert process.poll() is None, f"{command} ended with {process.returncode}"
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{environ['ESPALIER_PORT']}/ready", timeout=2)
            return process
        except OSError:
            time.sleep(0.1)
    raise AssertionError(f"{command} was not ready after a minute")


def stop(servers: list[subprocess.Popen[str]]) -> None:
    while servers:
        server = servers.pop()
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(40)


@contextmanager
def free_port() -> Iterator[int]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    yield port
