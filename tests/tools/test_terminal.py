"""Names from files and people reach the terminal as text: not as rich's markup, not as commands of the terminal."""

import io
import logging
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from support.server_process import running_server
from support.tiny_models import write_tiny_llama
from tools.progress import progress_bar
from tools.terminal import LogFormatter, plain, printable, without_controls

HOSTILE = "a[red]\x1b[31m[\x9b\u202e\r\n]"
SHOWN = r"a[red]\x1b[31m[\x9b\u202e\r\n]"


@pytest.fixture(scope="module")
def hostile_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    model = write_tiny_llama(folder / "m.gguf")
    return Path(shutil.copy(model, folder / f"{HOSTILE}.gguf"))


def test_what_a_terminal_would_obey_is_escaped() -> None:
    assert printable(HOSTILE) == SHOWN
    assert printable("naïve 模型 🙂", io.TextIOWrapper(io.BytesIO(), "utf-8")) == "naïve 模型 🙂"
    assert printable("naïve \udcff", io.TextIOWrapper(io.BytesIO(), "ascii")) == r"na\xefve \udcff"


def test_a_models_text_keeps_its_lines_and_emoji() -> None:
    text = "two\nlines\tand a family 👨‍👩‍👧"
    assert without_controls(text) == text
    assert without_controls("\x1b]0;title\x07\r\x00\x9b") == r"\x1b]0;title\x07\r\x00\x9b"


@pytest.mark.parametrize("name", ["a[/b]", "[bold", "[link=x]y[/link]", "\\[a]", HOSTILE])
def test_rich_prints_a_name_as_it_is(name: str) -> None:
    out = io.StringIO()
    Console(file=out, force_terminal=True, width=200).print(plain((name, "bold"), ": x"), soft_wrap=True)
    assert printable(name) in out.getvalue()


def test_a_progress_bar_takes_any_name() -> None:
    with progress_bar(f"loading {HOSTILE} [/b]") as report:
        report(1, 2)


def test_a_log_line_is_one_line() -> None:
    record = logging.LogRecord("espalier", logging.INFO, "", 0, "model %s", (HOSTILE,), None)
    assert LogFormatter("%(message)s").format(record) == f"model {SHOWN}"


@pytest.mark.parametrize("alias", ["a[/b]", None])
def test_the_banner_of_a_server_survives_its_names(hostile_file: Path, alias: str | None) -> None:
    with running_server(hostile_file, *(() if alias is None else ("--alias", alias))) as server:
        assert any(line.startswith(f"{printable(alias or HOSTILE)}: ") for line in server.lines), server.lines
        assert not any("\x1b" in line for line in server.lines)


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [("inspect", "FILE"), ("bench", "FILE", "-p", "4", "-n", "0", "-r", "1"),
                                       ("serve", "FILE.missing", "--port", "0")])  # fmt: skip
def test_every_command_shows_names_escaped(hostile_file: Path, arguments: tuple[str, ...]) -> None:
    given = [a.replace("FILE", str(hostile_file)) for a in arguments]
    command = [sys.executable, "-c", "from tools.cli import main; main()", *given]
    done = subprocess.run(command, input=b"", capture_output=True, timeout=60, check=False)
    assert b"\x1b" not in done.stdout + done.stderr
    assert b"Traceback" not in done.stderr
    assert SHOWN.encode() in (done.stdout + done.stderr).replace(b"\n", b"")
