"""The `espalier` command. One line for each mistake, exit status 2 for bad input, --help that explains itself.

Heavy modules are imported by the command that needs them, so `espalier --help` is quick.
"""

import errno
import importlib.metadata
import os
import signal
import sys
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from server.settings import Settings, default_text, parse_hosts, parse_list, parse_origins, parse_variables
from tools.refusals import LATER_COMMANDS, LATER_FLAGS
from tools.terminal import say

INTERRUPTED = 130
#: What writing to standard output fails with when the disk, a quota, the device or the reader is at an end.
_LOST = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EPIPE)

app = typer.Typer(
    name="espalier",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

Device = Annotated[
    str, typer.Option(help="auto (a GPU if one can be used), cuda, cpu or reference (slow, NumPy).")
]
Threads = Annotated[
    int | None, typer.Option(help="CPU threads; default: the physical cores this process may use.")
]
Trellis = Annotated[str, typer.Option(help="Generator of IQ2/3/4_KT tensors: auto, integer or 3inst.")]
Activations = Annotated[
    int, typer.Option(help="int8 planes of activations: 1, or 2 for nearly exact ones at twice the work.")
]
KVType = Annotated[str, typer.Option(help="Type of cached keys and values: f16 or q8_0.")]
Experts = Annotated[
    str,
    typer.Option(help="Where experts lie beside a GPU: auto, cpu, cuda, or cpu:FIRST-LAST for some layers."),
]
Attention = Annotated[
    str, typer.Option(help="Attention on a GPU: exact (the CPU's bits) or tensor (f16 tensor cores).")
]
ModelPath = Annotated[Path, typer.Argument(help="A GGUF file.", show_default=False)]


def _setting(name: str, *declarations: str) -> Any:
    """The option of a server setting: its help and default from server/settings.py."""
    setting = next(f for f in fields(Settings) if f.name == name)
    help, default = setting.metadata["help"], default_text(setting)
    # The bracket is escaped: rich would read it as markup.
    return typer.Option(*declarations, help=f"{help} \\[default: {default}]", show_default=False)


@app.command()
def serve(
    model: Annotated[
        Path | None, typer.Argument(help="A GGUF file; default: the demo model.", show_default=False)
    ] = None,
    host: Annotated[str | None, _setting("host")] = None,
    port: Annotated[int | None, _setting("port")] = None,
    device: Annotated[str | None, _setting("device")] = None,
    ctx_size: Annotated[int | None, _setting("ctx_size")] = None,
    max_batch: Annotated[int | None, _setting("max_batch")] = None,
    kv_type: Annotated[str | None, _setting("kv_type")] = None,
    kv_memory: Annotated[str | None, _setting("kv_memory")] = None,
    threads: Annotated[int | None, _setting("threads")] = None,
    api_key: Annotated[str | None, _setting("api_keys")] = None,
    api_key_file: Annotated[Path | None, typer.Option(help="A file of such keys, one a line.")] = None,
    cors_origin: Annotated[list[str] | None, _setting("cors_origins")] = None,
    allowed_host: Annotated[list[str] | None, _setting("allowed_hosts")] = None,
    alias: Annotated[list[str] | None, _setting("aliases")] = None,
    accept_any_model: Annotated[bool | None, _setting("accept_any_model", "--accept-any-model")] = None,
    attention: Annotated[str | None, _setting("attention")] = None,
    kt_trellis: Annotated[str | None, _setting("kt_trellis")] = None,
    experts: Annotated[str | None, _setting("experts")] = None,
    activations: Annotated[int | None, _setting("activations")] = None,
    chat_template: Annotated[str | None, _setting("chat_template")] = None,
    pooling: Annotated[str | None, _setting("pooling")] = None,
    chat_template_kwargs: Annotated[str | None, _setting("chat_template_kwargs")] = None,
    tool_parser: Annotated[str | None, _setting("tool_parser")] = None,
    reasoning_parser: Annotated[str | None, _setting("reasoning_parser")] = None,
    drain_seconds: Annotated[float | None, _setting("drain_seconds")] = None,
) -> None:
    """Serve MODEL at http://HOST:PORT/v1 until SIGTERM or Ctrl-C."""
    from tools.serve import serve_model

    flags = {
        "model": model, "host": host, "port": port, "device": device, "ctx_size": ctx_size,
        "max_batch": max_batch, "threads": threads, "accept_any_model": accept_any_model,
        "kv_type": kv_type, "attention": attention, "kt_trellis": kt_trellis, "experts": experts,
        "activations": activations,
        "chat_template": chat_template,
        "pooling": pooling,
        "chat_template_kwargs": parse_variables(chat_template_kwargs) if chat_template_kwargs else None,
        "tool_parser": tool_parser,
        "reasoning_parser": reasoning_parser,
        "drain_seconds": drain_seconds,
        "aliases": parse_list(",".join(alias)) if alias else None,
        "cors_origins": parse_origins(",".join(cors_origin)) if cors_origin else None,
        "allowed_hosts": parse_hosts(",".join(allowed_host)) if allowed_host else None,
    }  # fmt: skip
    raise typer.Exit(serve_model(flags, kv_memory, api_key, api_key_file))


def _version(wanted: bool) -> None:
    if wanted:
        print(f"espalier {importlib.metadata.version('espalier')}")
        raise typer.Exit()


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Serve trellis-quantized (KT) GGUF models over an OpenAI-compatible HTTP API."""


@app.command()
def chat(
    model: Annotated[
        Path | None, typer.Argument(help="A GGUF file; default: the demo model.", show_default=False)
    ] = None,
    system: Annotated[str, typer.Option(help="An instruction for the model.", show_default=False)] = "",
    temperature: Annotated[float, typer.Option(help="0: always the likeliest token.")] = 0.7,
    max_tokens: Annotated[
        int | None, typer.Option(help="Longest answer; default: to the end of the context.")
    ] = None,
    ctx_size: Annotated[
        int | None, typer.Option(help="Longest conversation in tokens; default: the model's trained length.")
    ] = None,
    device: Device = "auto",
    threads: Threads = None,
    attention: Attention = "exact",
    kt_trellis: Trellis = "auto",
    activations: Activations = 1,
    chat_template: Annotated[str | None, _setting("chat_template")] = None,
    experts: Experts = "auto",
) -> None:
    """Chat with MODEL in the terminal; /help there lists the commands."""
    from tools.chat import run

    run(
        model,
        system,
        temperature,
        max_tokens,
        ctx_size,
        device,
        threads,
        kt_trellis,
        activations,
        attention,
        chat_template,
        experts,
    )


@app.command()
def perplexity(
    model: ModelPath,
    text: Annotated[Path, typer.Argument(help="A UTF-8 text file.", show_default=False)],
    ctx_size: Annotated[int, typer.Option(help="Tokens in a window.")] = 512,
    kv_type: KVType = "f16",
    device: Device = "auto",
    threads: Threads = None,
    attention: Attention = "exact",
    kt_trellis: Trellis = "auto",
    activations: Activations = 1,
    json: Annotated[bool, typer.Option("--json", help="A JSON object as the last line.")] = False,
    experts: Experts = "auto",
) -> None:
    """Perplexity of MODEL on TEXT: whole windows, the second half of each scored."""
    from tools.perplexity import run

    run(model, text, ctx_size, kv_type, device, threads, kt_trellis, activations, json, attention, experts)


SYNTHETIC_HELP = (
    "SHAPE TYPE: random weights in memory, such as llama-0.85b IQ2_KT, or qwen3-30b-a3b:12 IQ2_KT for 12 of that "
    "shape's layers"
)


@app.command()
def bench(
    model: Annotated[Path | None, typer.Argument(help="A GGUF file.", show_default=False)] = None,
    synthetic: Annotated[
        tuple[str, str] | None, typer.Option(help=f"{SYNTHETIC_HELP}.", metavar="SHAPE TYPE")
    ] = None,
    n_prompt: Annotated[int, typer.Option("-p", help="Prompt tokens; 0 leaves the test out.")] = 512,
    n_gen: Annotated[int, typer.Option("-n", help="Generated tokens; 0 leaves the test out.")] = 128,
    depth: Annotated[
        int, typer.Option("--depth", "-d", help="Tokens in the context before each test, not timed.")
    ] = 0,
    repetitions: Annotated[int, typer.Option("-r", help="Runs of each test, warmed up before.")] = 5,
    kv_type: KVType = "f16",
    device: Device = "auto",
    threads: Threads = None,
    attention: Attention = "exact",
    activations: Activations = 1,
    peer: Annotated[
        Path | None,
        typer.Option(
            help="A build folder of ik_llama.cpp: its llama-bench runs in turns with each repetition, on the same "
            "file.",
            show_default=False,
        ),
    ] = None,
    write: Annotated[
        Path | None,
        typer.Option(
            help="Write the --synthetic model to this GGUF file, and measure nothing.", show_default=False
        ),
    ] = None,
    batch: Annotated[
        int,
        typer.Option(
            "--batch",
            "-b",
            help="Also so many sequences at once, greedy and with default sampling; 0 leaves the test out.",
        ),
    ] = 0,
    json: Annotated[bool, typer.Option("--json", help="A JSON object as the last line.")] = False,
) -> None:
    """Prompt and generation speed in tokens per second, as the peer's llama-bench defines them."""
    from tools import bench as command

    options = command.BenchOptions(
        model, synthetic, n_prompt, n_gen, depth, repetitions, kv_type, device, threads, activations, peer, json,
        attention, batch,
    )  # fmt: skip
    if write is None:
        command.run(options)
    else:
        command.write(options, write)


@app.command()
def inspect(
    model: ModelPath,
    ctx_size: Annotated[int | None, typer.Option(help="Context for the memory estimate.")] = None,
    kv_type: KVType = "f16",
) -> None:
    """What a GGUF file holds: hyperparameters, tensors, types, vocabulary, template, memory needed."""
    from tools.inspect import run

    run(model, ctx_size, kv_type)


class _Terminated(BaseException):
    """SIGTERM, wherever it comes; `serve` takes it itself once the model is loaded."""


def main() -> None:
    """The console script. A caller's mistake is one line and status 2, SIGINT 130, SIGTERM 143, lost output 1."""
    signal.signal(signal.SIGTERM, _on_sigterm)
    refused = _later(sys.argv[1:])
    if refused:
        _fail(refused)
    from engine.errors import EspalierError
    from kernels.cuda.errors import CudaError

    try:
        try:
            app()
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()
    except (EspalierError, CudaError) as error:
        _fail(str(error))
    except SystemExit as end:
        if end.code == INTERRUPTED:  # typer has caught the KeyboardInterrupt, and says nothing
            say("stopped by SIGINT")
        raise
    except _Terminated:
        _fail("stopped by SIGTERM", 143)
    except OSError as error:
        _lost_output(error)


def _on_sigterm(*_: object) -> None:
    raise _Terminated


def _lost_output(error: OSError) -> None:
    """A full disk is a line; a reader that has gone, as `head` does, wants none. Other errors are bugs."""
    if error.filename is not None or error.errno not in _LOST:
        raise error
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is left in the buffer would fail again at the end
    if error.errno == errno.EPIPE:
        raise SystemExit(1)
    _fail(f"standard output cannot be written: {error.strerror}", 1)


def _later(arguments: list[str]) -> str | None:
    """The line for a command or flag of the contract that this build does not have."""
    if arguments and arguments[0] in LATER_COMMANDS:
        return f"the command {arguments[0]!r} {LATER_COMMANDS[arguments[0]]}"
    for argument in arguments:
        flag = argument.partition("=")[0]
        if flag in LATER_FLAGS:
            return f"{flag} {LATER_FLAGS[flag]}"
    return None


def _fail(message: str, status: int = 2) -> NoReturn:
    say(message)
    raise SystemExit(status)
