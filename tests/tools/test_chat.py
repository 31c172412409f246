"""`espalier chat` as a person meets it, on a real terminal (a pty) and in a pipe, and the conversation behind it."""

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from engine import EngineConfig, EspalierError, LoadedModel, RequestError, SamplingParams, load_model
from kernels.ops import Ops
from support.tiny_models import write_tiny_llama
from tools.conversation import Conversation

COMMAND = (sys.executable, "-c", "from tools.cli import main; main()", "chat")
#: Makes standard input the session's terminal first, so that Ctrl-C typed there is a signal.
ON_TERMINAL = (
    "import fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); from tools.cli import main; main()"
)
GREEDY = SamplingParams(temperature=0, max_tokens=6)
SECONDS = 30.0  # until something that must appear has appeared; a busy machine takes a few


class Terminal:
    """A program on a pty: what is typed, and what has come back since it was last looked for."""

    def __init__(self, fd: int, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self._fd = fd
        self._seen = ""

    def type(self, text: str) -> None:
        os.write(self._fd, text.encode())

    def until(self, text: str) -> str:
        """What came up to and including text."""
        self._wait(lambda: text in self._seen, text)
        found, _, self._seen = self._seen.partition(text)
        return found + text

    def until_anything(self) -> None:
        self._wait(lambda: bool(self._seen), "anything")

    def left_by_ctrl_c(self) -> int:
        """The exit status. The interpreter looks for signals before it waits for a line, not while it begins to: a
        Ctrl-C in that moment, just after the prompt, counts with the next key. So it is pressed again, as one would.
        """
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            self.type("\x03")
            with suppress(subprocess.TimeoutExpired):
                return self.process.wait(SECONDS / 6)
        raise AssertionError("Ctrl-C did not end it")

    def _wait(self, has_come: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + SECONDS
        while not has_come():
            assert time.monotonic() < end, f"{what!r} did not come; instead: {self._seen!r}"
            if select.select([self._fd], [], [], 0.1)[0]:
                self._seen += os.read(self._fd, 4096).decode("utf-8", "replace")


@contextmanager
def terminal(*arguments: object) -> Iterator[Terminal]:
    """A chat on a terminal of its own, in which Ctrl-C is typed as any other key."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", ON_TERMINAL, "chat", *map(str, arguments)],
        stdin=theirs, stdout=theirs, stderr=theirs, env=os.environ | {"TERM": "dumb"}, start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    try:
        yield Terminal(ours, process)
    finally:
        process.kill()
        process.wait()
        os.close(ours)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights and a long context: its answers go on until someone stops them."""
    return write_tiny_llama(tmp_path_factory.mktemp("chat") / "tiny.gguf", n_ctx=8192)


@pytest.fixture
def loaded(model: Path, cpu_ops: Ops) -> LoadedModel:
    return load_model(model, cpu_ops)


def test_a_terminal_chat_takes_commands_and_saves_what_was_said(model: Path, tmp_path: Path) -> None:
    saved = tmp_path / "chat.json"
    with terminal(model, "--max-tokens", 5, "--temperature", 0) as chat:
        assert "tiny on cpu" in chat.until("> ")
        chat.type("/system Be kind.\n/set top_k 3\n/set seed x\n/dance\nhello\n")
        chat.until("The instruction is set.")
        chat.until("top_k 3")
        chat.until("seed is a whole number, not 'x'")
        chat.until("/dance is no command; /help lists them")
        chat.type(f"/save {saved}\n")
        chat.until("The conversation is in")
        chat.type("/quit\n")
        assert chat.process.wait(SECONDS) == 0
    system, user, assistant = json.loads(saved.read_text())["messages"]
    assert system == {"role": "system", "content": "Be kind."}
    assert user == {"role": "user", "content": "hello"}
    assert assistant["role"] == "assistant"


@pytest.mark.slow
def test_ctrl_c_stops_an_answer_and_at_the_prompt_it_leaves(model: Path) -> None:
    with terminal(model, "--temperature", 0) as chat:
        chat.until("> ")
        chat.type("hello\n")
        chat.until("hello\r\n")
        chat.until_anything()  # of an answer of 8000 tokens
        chat.type("\x03")
        chat.until("stopped")
        chat.until("> ")
        chat.type("/help\n")
        chat.until("Ctrl-C stops an answer.")
        chat.until("> ")
        assert chat.left_by_ctrl_c() == 0


def test_a_pipe_gives_the_answers_alone(model: Path, loaded: LoadedModel) -> None:
    done = subprocess.run(
        [*COMMAND, str(model), "--max-tokens", "6", "--temperature", "0"],
        input="hello\n\n/reset\nhello\n", capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    answer = "".join(Conversation(loaded, EngineConfig(max_batch=1), GREEDY).reply("hello"))
    assert done.stdout == f"{answer}\n" * 2
    assert done.stderr == "The conversation is forgotten.\n"


def test_ctrl_c_ends_a_chat_in_a_pipe(model: Path) -> None:
    process = subprocess.Popen([*COMMAND, str(model)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b"hello\n")
    process.stdin.flush()
    assert process.stdout.read(1)  # it answers
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=SECONDS)
    assert process.returncode == 130


def test_each_prompt_holds_the_turns_before_it(loaded: LoadedModel) -> None:
    chat = Conversation(loaded, EngineConfig(max_batch=1), GREEDY)
    first, second = ("".join(chat.reply(text)) for text in ("one", "two"))
    assert chat.messages() == [
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": first},
        {"role": "user", "content": "two"},
        {"role": "assistant", "content": second},
    ]
    alone = Conversation(loaded, EngineConfig(max_batch=1), GREEDY)
    assert "".join(alone.reply("two")) != second


def test_an_answer_that_was_stopped_counts_as_said_so_far(loaded: LoadedModel) -> None:
    chat = Conversation(loaded, EngineConfig(max_batch=1), SamplingParams(temperature=0))
    pieces: list[str] = []
    for piece in chat.reply("go on", lambda: len(pieces) >= 4):
        pieces.append(piece)
    assert chat.messages()[-1]["content"] == "".join(pieces)
    assert 4 <= len(pieces) <= 5  # the last may be the beginning of a character that never came


def test_a_long_conversation_forgets_its_oldest_turns(loaded: LoadedModel) -> None:
    chat = Conversation(loaded, EngineConfig(ctx_size=160, max_batch=1), GREEDY)
    for i in range(8):
        "".join(chat.reply(f"message number {i} of some length"))
    assert chat.n_forgotten > 0
    assert chat.n_forgotten + len(chat.messages()) == 16
    assert chat.messages()[-2]["content"] == "message number 7 of some length"


def test_what_cannot_be_asked_is_not_remembered(loaded: LoadedModel) -> None:
    chat = Conversation(loaded, EngineConfig(ctx_size=32, max_batch=1), GREEDY)
    with pytest.raises(RequestError):
        "".join(chat.reply("far too long " * 50))
    assert chat.messages() == []


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("wings", "2", "temperature"),
        ("temperature", "warm", "number"),
        ("top_k", "1.5", "whole number"),
        ("temperature", "-1", "temperature"),
        ("temperature", "", "number"),
    ],
)
def test_a_parameter_that_cannot_be_set_changes_nothing(
    loaded: LoadedModel, name: str, text: str, words: str
) -> None:
    chat = Conversation(loaded, EngineConfig(max_batch=1), GREEDY)
    with pytest.raises(EspalierError, match=words):
        chat.set_param(name, text)
    assert chat.params == GREEDY
