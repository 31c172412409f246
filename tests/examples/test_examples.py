"""Every example runs against a live server, as its reader would start it."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.server_process import ROOT, ServerProcess, running_server

EXAMPLES = ROOT / "examples"
KEY = "example-key"


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    """The demo model behind a key: an example that forgets to send one fails."""
    with running_server(None, "--api-key", KEY) as running:
        yield running


def run(server: ServerProcess, *command: str, cwd: Path = ROOT) -> str:
    """The example's output."""
    environ = os.environ | {"OPENAI_BASE_URL": f"{server.url}/v1", "OPENAI_API_KEY": KEY}
    done = subprocess.run(
        command, cwd=cwd, env=environ, text=True, capture_output=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_curl_streams_events_up_to_done(server: ServerProcess) -> None:
    events = [line for line in run(server, "sh", str(EXAMPLES / "chat.sh")).splitlines() if line]
    assert events[0].startswith('data: {"id":')
    assert events[-1] == "data: [DONE]"


def test_the_python_example_holds_a_conversation(server: ServerProcess) -> None:
    lines = run(server, sys.executable, str(EXAMPLES / "chat.py")).splitlines()
    assert lines[0] == "> Hello! What are you?"
    assert "Espalier" in lines[1]
    assert sum(line.startswith("> ") for line in lines) == 2


def test_many_requests_at_once_get_the_answers_they_get_alone(server: ServerProcess) -> None:
    assert "each the same as alone" in run(server, sys.executable, str(EXAMPLES / "many_at_once.py"))


@pytest.mark.slow  # installs the SDK from the package registry
def test_the_node_example_prints_an_answer(server: ServerProcess, tmp_path: Path) -> None:
    if shutil.which("npm") is None:
        pytest.skip("no Node.js on this machine")
    shutil.copy(EXAMPLES / "chat.mjs", tmp_path)
    subprocess.run(
        ["npm", "install", "--silent", "--no-audit", "--no-fund", "openai@6"], cwd=tmp_path, check=True
    )
    assert "Espalier" in run(server, "node", "chat.mjs", cwd=tmp_path)


@pytest.mark.slow  # `make test-slow` installs it: without it this fails rather than passing unseen
def test_the_langchain_example_prints_an_answer(server: ServerProcess) -> None:
    assert len(run(server, sys.executable, str(EXAMPLES / "langchain_chat.py")).split()) > 3


def test_every_example_is_listed_and_run() -> None:
    """A new example needs its line in the table and its test here."""
    table = (EXAMPLES / "README.md").read_text()
    tests = Path(__file__).read_text() + (ROOT / "tests" / "test_containers.py").read_text()
    for example in EXAMPLES.iterdir():
        if example.name != "README.md":
            assert f"({example.name})" in table, example.name
            assert example.name in tests, example.name
