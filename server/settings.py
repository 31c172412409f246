"""Every setting of the server: its meaning, default, unit, flag and environment variable, in one place.

A flag beats its environment variable, which beats the default. The command line takes its help from here, `resolve`
builds a Settings, and docs/configuration.md is written from it. Two variables are no settings, for kernels are chosen
and kept without a server too: ESPALIER_ISA (kernels/cpu/ops.py) and ESPALIER_CACHE (kernels/cuda/compile.py).
"""

import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any

from engine.answers.formats import AUTO, CALL_FORMATS
from engine.answers.thoughts import THOUGHT_FORMATS
from engine.errors import EspalierError
from engine.pooling import POOLINGS
from server.origins import ANY, host_name, parse_origin

ENV_PREFIX = "ESPALIER_"
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", re.IGNORECASE)


def parse_size(text: str) -> int:
    """Bytes of "2G", "512MiB", "1.5g" or "1000000". Raises EspalierError."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise EspalierError(f"{text!r} is not a size; write something like 512M or 2G")
    return int(float(match[1]) * 1024 ** " KMGT".find(match[2].upper() or " "))


def parse_bool(text: str) -> bool:
    """Raises KeyError for anything but 1, 0, true and false."""
    return {"1": True, "true": True, "0": False, "false": False}[text.lower()]


def parse_list(text: str) -> tuple[str, ...]:
    """The parts of "a, b"."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def parse_variables(text: str) -> Mapping[str, Any]:
    """Variables of a chat template, as a JSON object. Raises EspalierError."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise EspalierError(
            '--chat-template-kwargs is no JSON object; write something like {"enable_thinking": false}'
        )
    return value


def parse_origins(text: str) -> tuple[str, ...]:
    """Origins as a browser sends them; a slash at the end is taken off. Raises EspalierError."""
    origins = tuple(part.removesuffix("/") for part in parse_list(text))
    for origin in origins:
        if origin not in (ANY, "null") and parse_origin(origin) is None:
            raise EspalierError(
                f"{origin!r} is not an origin; write something like https://chat.example.com or *"
            )
    return origins


def parse_hosts(text: str) -> tuple[str, ...]:
    """Names that a Host header may have, without ports. Raises EspalierError."""
    hosts = parse_list(text)
    for host in hosts:
        if host != ANY and host_name(host) is None:
            raise EspalierError(f"{host!r} is not a host; write something like chat.example.com")
    return hosts


def setting(
    default: Any,
    help: str,
    read: Callable[[str], Any],
    *,
    unit: str = "",
    unset: str = "",
    flag: bool = True,
    shown: bool = True,
) -> Any:
    """A field of Settings.

    read: from the environment variable's text. unset: what None stands for. flag: the command line has it too.
    shown False keeps the value out of repr (secrets).
    """
    meaning = {"help": help, "read": read, "unit": unit, "unset": unset, "flag": flag}
    return field(default=default, repr=shown, metadata=meaning)


@dataclass(frozen=True)
class Settings:
    """What the operator chose."""

    model: Path | None = setting(None, "The GGUF file to serve.", Path, unset="the demo model")
    host: str = setting("127.0.0.1", "Address to listen on.", str)
    port: int = setting(8000, "Port to listen on; 0 takes any free one.", int)
    device: str = setting("auto", "auto (a GPU if one can be used), cuda, cpu or reference.", str)
    threads: int | None = setting(None, "CPU threads.", int, unset="the physical cores this process may use")
    ctx_size: int | None = setting(
        None, "Longest request, prompt and answer.", int, unit="tokens", unset="the model's trained length"
    )
    max_batch: int = setting(64, "Requests in one forward pass.", int, unit="requests")
    max_queue: int = setting(
        1024, "Requests waiting beyond those; more are refused with 503.", int, unit="requests", flag=False
    )
    kv_memory: int | None = setting(
        None,
        "Memory for cached keys and values, such as 2G.",
        parse_size,
        unit="bytes",
        unset="printed at start",
    )
    kv_type: str = setting("f16", "Type of cached keys and values: f16, or q8_0 in half the memory.", str)
    attention: str = setting(
        "exact", "Attention on a GPU: exact (the CPU's bits) or tensor (f16 tensor cores).", str
    )
    kt_trellis: str = setting("auto", "Generator of IQ2/3/4_KT tensors: auto, integer or 3inst.", str)
    experts: str = setting(
        "auto", "Where experts lie beside a GPU: auto, cpu, cuda, or cpu:FIRST-LAST for some layers.", str
    )
    activations: int = setting(
        1, "int8 planes of each linear's activations: 1, or 2 for nearly exact ones at twice the work.", int
    )
    aliases: tuple[str, ...] = setting(
        (),
        "The model's ids in the API, the first one its own; commas between several.",
        parse_list,
        unset="the file's stem",
    )
    tool_parser: str = setting(
        AUTO,
        f"How the model writes tool calls: auto (its template shows it), none, {', '.join(CALL_FORMATS)}.",
        str,
    )
    reasoning_parser: str = setting(
        AUTO, f"How the model writes its thoughts: auto, none, {', '.join(THOUGHT_FORMATS)}.", str
    )
    chat_template_kwargs: Mapping[str, Any] | None = setting(
        None,
        'Variables of the chat template for requests that do not set them, as JSON: {"enable_thinking": false}.',
        parse_variables,
        unset="none",
    )
    accept_any_model: bool = setting(False, "Answer to any model name.", parse_bool)
    api_keys: tuple[str, ...] = setting(
        (),
        "Keys; with one, every request but /health and /ready needs one.",
        lambda text: (text,),
        unset="no key",
        shown=False,
    )
    cors_origins: tuple[str, ...] = setting(
        (),
        "Origins whose pages may use the server, or *; commas between several.",
        parse_origins,
        unset="pages of this machine",
    )
    allowed_hosts: tuple[str, ...] = setting(
        (),
        "Host names to answer to, or *; commas between several.",
        parse_hosts,
        unset="this machine's where no key is asked for, else any",
    )
    chat_template: str | None = setting(
        None,
        "Chat template: a file of Jinja, or the name of a family such as chatml.",
        str,
        unset="the model file's",
    )
    pooling: str = setting(
        "auto",
        "How embeddings are made of a text's tokens: mean, last, cls (the first), or auto (the file's, else last).",
        str,
    )
    drain_seconds: float = setting(
        30.0, "For running requests to finish after SIGTERM.", float, unit="seconds"
    )
    max_body_bytes: int = setting(
        16 << 20, "Largest request body; more is a 413.", parse_size, unit="bytes", flag=False
    )
    max_connections: int = setting(
        2048,
        "Connections at once; the one that has waited longest for a request makes room for one more.",
        int,
        flag=False,
    )
    receive_seconds: float = setting(
        30.0, "For a request to arrive whole; then 408.", float, unit="seconds", flag=False
    )
    request_seconds: float = setting(
        3600.0, "For a request to be answered.", float, unit="seconds", flag=False
    )
    send_seconds: float = setting(
        20.0,
        "For a client to take anything of what waits for it; then it is cut off.",
        float,
        unit="seconds",
        flag=False,
    )
    ping_seconds: float = setting(
        15.0, "Between comments that keep a silent stream open.", float, unit="seconds", flag=False
    )
    step_seconds: float = setting(
        600.0, "A forward pass that takes longer counts as hung.", float, unit="seconds", flag=False
    )


#: Lists, whose flag and environment variable are named after one entry.
_SINGULAR = {
    "api_keys": "api_key",
    "cors_origins": "cors_origin",
    "allowed_hosts": "allowed_host",
    "aliases": "alias",
}


def env_name(name: str) -> str:
    """The environment variable of a setting."""
    return ENV_PREFIX + _SINGULAR.get(name, name).upper()


def flag_name(name: str) -> str:
    """The command line's option of a setting."""
    return f"--{_SINGULAR.get(name, name).replace('_', '-')}"


def default_text(setting: Field) -> str:
    """A setting's default in words, with its unit."""
    if setting.default in (None, ()):
        return str(setting.metadata["unset"])
    if isinstance(setting.default, bool):
        return "on" if setting.default else "off"
    value: Any = setting.default
    size = f"{value >> 20} MiB" if setting.metadata["unit"] == "bytes" else None
    number = f"{value:g}" if isinstance(value, float) else str(value)
    return size or f"{number} {setting.metadata['unit']}".strip()


def resolve(flags: Mapping[str, Any], environ: Mapping[str, str] | None = None) -> Settings:
    """Settings from flags (None: not given) over ESPALIER_* over defaults. Raises EspalierError."""
    environ = os.environ if environ is None else environ
    values = {name: value for name, value in flags.items() if value is not None}
    unknown = set(values) - {f.name for f in fields(Settings)}
    if unknown:
        raise TypeError(f"no such settings: {sorted(unknown)}")
    for f in fields(Settings):
        text = environ.get(env_name(f.name))
        if f.name not in values and text:
            values[f.name] = _read(f.name, text, f.metadata["read"])
    return _checked(Settings(**values))


def _read(name: str, text: str, read: Callable[[str], Any]) -> Any:
    try:
        return read(text)
    except (ValueError, KeyError, EspalierError):
        shown = "set" if name == "api_keys" else repr(text)
        raise EspalierError(f"{env_name(name)} is {shown}, which is not a value for it") from None


def _checked(settings: Settings) -> Settings:
    if not 0 <= settings.port <= 65535:
        raise EspalierError(f"--port is {settings.port}; ports go from 0 to 65535")
    for name in ("drain_seconds", "receive_seconds", "request_seconds", "send_seconds", "step_seconds"):
        if not 0 <= getattr(settings, name) < 1e6:
            raise EspalierError(f"{name} is {getattr(settings, name)}; expected 0 to 999999 seconds")
    if not 0 < settings.ping_seconds < 1e6:
        raise EspalierError(f"ping_seconds is {settings.ping_seconds}; expected more than 0 seconds")
    if settings.pooling not in ("auto", *POOLINGS):
        raise EspalierError(f"--pooling is {settings.pooling!r}; expected auto, {', '.join(POOLINGS)}")
    for name in ("max_queue", "max_body_bytes", "max_connections"):
        if getattr(settings, name) < 1:
            raise EspalierError(f"{name} is {getattr(settings, name)}; expected at least 1")
    if any(not key or not key.isascii() or not key.isprintable() for key in settings.api_keys):
        raise EspalierError("an API key must be printable ASCII and not empty")
    return settings
