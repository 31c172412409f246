"""`espalier chat`: a conversation in the terminal, through the engine in this process; no server, no HTTP.

Ctrl-C stops an answer, and at the prompt it leaves. Where standard input is no terminal its lines are the messages,
only the answers are printed, and Ctrl-C ends the program.
"""

import json
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rich.console import Console

from engine import EngineConfig, EspalierError, SamplingParams, load_model
from engine.loading.placement import check_experts
from engine.text.template_families import choose
from tools.backends import backend_line, checked_trellis, open_backend
from tools.conversation import SETTABLE, Conversation
from tools.demo import DEMO_MODEL
from tools.progress import progress_bar
from tools.terminal import printable, without_controls

PROMPT = "> "
HELP = f"""\
/help              this list
/reset             forget the conversation
/system TEXT       give the model an instruction from now on; without TEXT, take it back
/set NAME VALUE    sampling: {", ".join(SETTABLE[:4])},
                   {", ".join(SETTABLE[4:])}; /set alone shows them
/save FILE         write the conversation as JSON, as the API takes it
/quit              leave; so do Ctrl-D and Ctrl-C
Ctrl-C stops an answer."""


def run(
    model: Path | None,
    system: str,
    temperature: float,
    max_tokens: int | None,
    ctx_size: int | None,
    device: str,
    threads: int | None,
    kt_trellis: str,
    activations: int,
    attention: str = "exact",
    chat_template: str | None = None,
    experts: str = "auto",
) -> None:
    check_experts(experts)
    chosen = choose(chat_template) if chat_template is not None else None
    path = model or DEMO_MODEL
    ops = open_backend(device, threads, activations, attention)
    with progress_bar(f"loading {path.name}") as report:
        loaded = load_model(path, ops, checked_trellis(kt_trellis), report, chosen, experts)
    params = SamplingParams(temperature=temperature, max_tokens=max_tokens)
    conversation = Conversation(loaded, EngineConfig(ctx_size=ctx_size, max_batch=1), params, system)
    greeting = f"{loaded.name} on {backend_line(ops)}. /help lists the commands, Ctrl-D leaves."
    _Terminal(conversation).run("\n".join([greeting, *(f"note: {note}" for note in loaded.notes)]))


class _Terminal:
    """What the person sees: a prompt, streamed answers, commands."""

    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation
        self._is_interactive = sys.stdin.isatty()
        self._is_shown = sys.stdout.isatty()
        self._notes = Console(stderr=True, highlight=False, soft_wrap=True)
        self._commands: dict[str, Callable[[str], None]] = {
            "/help": lambda _: print(HELP),
            "/reset": self._reset,
            "/system": self._instruct,
            "/set": self._set,
            "/save": self._save,
        }

    def run(self, greeting: str) -> None:
        if self._is_interactive:
            with suppress(ImportError):
                import readline  # noqa: F401  # input() then edits lines and remembers them
            self._note(greeting)
        for line in self._lines():
            if line in ("/quit", "/exit"):
                return
            try:
                self._take(line)
            except EspalierError as error:
                self._note(str(error))

    def _lines(self) -> Iterator[str]:
        """What was typed, until the input ends or Ctrl-C comes instead of a line."""
        while True:
            try:
                line = input(PROMPT if self._is_interactive else "").strip()
            except (EOFError, KeyboardInterrupt):
                if self._is_interactive:
                    print()
                return
            if line:
                yield line

    def _take(self, line: str) -> None:
        if not line.startswith("/"):
            return self._answer(line)
        name, _, text = line.partition(" ")
        if name not in self._commands:
            raise EspalierError(f"{name} is no command; /help lists them")
        self._commands[name](text.strip())

    def _answer(self, text: str) -> None:
        n_forgotten = self._conversation.n_forgotten
        with _interrupt_flag(self._is_interactive) as is_interrupted:
            for piece in self._conversation.reply(text, is_interrupted):
                print(without_controls(piece) if self._is_shown else piece, end="", flush=True)
            print(flush=True)
            if is_interrupted():
                self._note("stopped")
        if self._conversation.n_forgotten > n_forgotten:
            self._note("The oldest turns are forgotten: the conversation is longer than the context.")

    def _reset(self, _: str) -> None:
        self._conversation.reset()
        self._note("The conversation is forgotten.")

    def _instruct(self, text: str) -> None:
        self._conversation.system = text
        self._note("The instruction is set." if text else "The instruction is taken back.")

    def _set(self, text: str) -> None:
        name, _, value = text.partition(" ")
        if name:
            self._conversation.set_param(name, value.strip())
        shown = [name] if name else SETTABLE
        for each in shown:
            self._note(f"{each} {getattr(self._conversation.params, each)}")

    def _save(self, text: str) -> None:
        if not text:
            raise EspalierError("/save needs the name of a file")
        try:
            Path(text).write_text(json.dumps({"messages": self._conversation.messages()}, indent=1) + "\n")
        except OSError as error:
            raise EspalierError(f"/save {text}: {error.strerror}") from None
        self._note(f"The conversation is in {text}.")

    def _note(self, text: str) -> None:
        self._notes.print(printable(text, sys.stderr), style="dim", markup=False)


@contextmanager
def _interrupt_flag(is_interactive: bool) -> Iterator[Callable[[], bool]]:
    """Inside, a person's Ctrl-C sets a flag: an exception amid a step could leave the engine half-way."""
    pressed: list[bool] = []
    if not is_interactive:
        yield lambda: False
        return
    before = signal.signal(signal.SIGINT, lambda *_: pressed.append(True))
    try:
        yield lambda: bool(pressed)
    finally:
        signal.signal(signal.SIGINT, before)
