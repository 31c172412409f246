"""`espalier serve`: settings from flags, a model into memory, a line or two for the person, then the server."""

import logging
import sys
from pathlib import Path
from typing import Any

from rich.console import Console

from engine import Engine, EngineConfig, EspalierError, LoadedModel, load_model
from engine.answers.formats import format_of
from engine.loading.placement import check_experts
from engine.text.template_families import choose
from server.main import bind, serve
from server.settings import Settings, parse_size, resolve
from tools.backends import backend_line, checked_kv_type, checked_trellis, open_backend
from tools.demo import DEMO_MODEL
from tools.progress import progress_bar
from tools.terminal import LogFormatter, plain


def serve_model(
    flags: dict[str, Any], kv_memory: str | None, api_key: str | None, api_key_file: Path | None
) -> int:
    """Runs until told to stop; the exit status."""
    keys = api_keys(api_key, api_key_file)
    settings = resolve(
        flags | {"kv_memory": parse_size(kv_memory) if kv_memory else None, "api_keys": keys or None}
    )
    handler = logging.StreamHandler()
    handler.setFormatter(LogFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    sock = bind(settings)
    with sock:
        engine, loaded = _load(settings)
        return serve(engine, settings, sock, lambda url: _announce(engine, loaded, settings, url))


def _load(settings: Settings) -> tuple[Engine, LoadedModel]:
    path = settings.model or DEMO_MODEL
    chosen = choose(settings.chat_template) if settings.chat_template is not None else None
    checked_kv_type(settings.kv_type)
    check_experts(settings.experts)
    format_of("", tool_parser=settings.tool_parser, reasoning_parser=settings.reasoning_parser)
    ops = open_backend(settings.device, settings.threads, settings.activations, settings.attention)
    with progress_bar(f"loading {path.name}") as report:
        trellis = checked_trellis(settings.kt_trellis)
        loaded = load_model(
            path, ops, trellis, progress=report, chat_template=chosen, experts=settings.experts
        )
    config = EngineConfig(
        ctx_size=settings.ctx_size,
        max_batch=settings.max_batch,
        kv_memory_bytes=settings.kv_memory,
        max_queue=settings.max_queue,
        kv_type=settings.kv_type,
    )
    return Engine(loaded, config), loaded


def _announce(engine: Engine, loaded: LoadedModel, settings: Settings, url: str) -> None:
    """What is served, with what, how much fits, and a line to paste."""
    out = Console(stderr=True, highlight=False, soft_wrap=True)
    name = settings.aliases[0] if settings.aliases else loaded.name
    types = ", ".join(loaded.type_names[:4])

    def line(*parts: str | tuple[str, str]) -> None:
        out.print(plain(*parts, stream=sys.stderr))

    weights = f"{loaded.config.architecture}, {types}, {loaded.bits_per_weight:.2f} bits per weight"
    line((name, "bold"), f": {weights}")
    line(f"weights {_mib(loaded.weight_bytes)} on {backend_line(loaded.ops)}")
    kv_tokens = engine.kv.n_blocks * engine.kv.block_size
    line(f"context {engine.ctx_size} tokens a request; the {settings.kv_type} KV cache holds {kv_tokens}")
    if engine.kv.n_slots:
        size = _mib(engine.kv.slot_bytes)
        line(f"recurrent state {size} a request, in memory for {engine.kv.n_slots}: so many run at once")
    for note in loaded.notes:
        line(f"note: {note}")
    key = " -H 'Authorization: Bearer YOUR_KEY'" if settings.api_keys else ""
    line("serving at ", (f"{url}/v1", "bold"), "; try:")
    body = '{"messages": [{"role": "user", "content": "Hello!"}], "stream": true}'
    line(f"  curl -N {url}/v1/chat/completions{key} -H 'content-type: application/json' -d '{body}'")


def api_keys(key: str | None, file: Path | None) -> tuple[str, ...]:
    """The keys of the flag and of the file: one a line; lines that begin with # and empty ones are none."""
    keys = [key] if key is not None else []
    if file is not None:
        try:
            text = file.read_bytes().decode("utf-8-sig")  # editors of Windows begin a file with a BOM
        except OSError as error:
            raise EspalierError(f"--api-key-file {file}: cannot be read: {error.strerror}") from None
        except UnicodeDecodeError:
            raise EspalierError(f"--api-key-file {file}: is not UTF-8 text") from None
        lines = [line.strip() for line in text.splitlines()]
        found = [line for line in lines if line and not line.startswith("#")]
        if not found:
            raise EspalierError(f"--api-key-file {file} holds no key")
        keys += found
    return tuple(keys)


def _mib(n_bytes: int) -> str:
    return f"{n_bytes / (1 << 20):.1f} MiB"
