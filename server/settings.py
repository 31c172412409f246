"""Every setting of the server: its flag, environment variable, default and unit, in one place.

A flag beats its environment variable, which beats the default. The command line builds a Settings with
`resolve`; nothing else reads the environment.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from engine.errors import EspalierError

ENV_PREFIX = "ESPALIER_"


@dataclass(frozen=True)
class Settings:
    """What the operator chose. Times in seconds, sizes in bytes."""

    model: Path | None = None
    host: str = "127.0.0.1"
    port: int = 8000  # 0: any free one
    device: str = "auto"
    threads: int | None = None  # None: every CPU of the process
    ctx_size: int | None = None  # tokens; None: the trained length
    max_batch: int = 64  # requests in one forward pass
    max_queue: int = 1024  # requests waiting beyond those
    kv_memory: int | None = None
    kt_trellis: str = "auto"
    alias: str | None = None
    accept_any_model: bool = False
    api_keys: tuple[str, ...] = field(default=(), repr=False)
    drain_seconds: float = 30.0
    max_body_bytes: int = 16 << 20
    receive_seconds: float = 30.0  # for a request to arrive whole
    request_seconds: float = 3600.0  # for a request to be answered
    send_seconds: float = 60.0  # for a client to take one event
    ping_seconds: float = 15.0  # between comments that keep a silent stream open
    step_seconds: float = 600.0  # a forward pass that takes longer counts as hung
    max_connections: int = 2048


#: Settings with an environment variable, and how its text is read.
_FROM_ENV = {
    "host": str,
    "port": int,
    "device": str,
    "threads": int,
    "ctx_size": int,
    "max_batch": int,
    "max_queue": int,
    "alias": str,
    "accept_any_model": lambda text: {"1": True, "true": True, "0": False, "false": False}[text.lower()],
    "kt_trellis": str,
    "drain_seconds": float,
    "max_body_bytes": int,
    "model": Path,
}


def resolve(flags: Mapping[str, Any], environ: Mapping[str, str] | None = None) -> Settings:
    """Settings from flags (None: not given) over ESPALIER_* over defaults. Raises EspalierError."""
    environ = os.environ if environ is None else environ
    values = {name: value for name, value in flags.items() if value is not None}
    for name, read in _FROM_ENV.items():
        text = environ.get(ENV_PREFIX + name.upper())
        if name not in values and text:
            values[name] = _read(name, text, read)
    if "api_keys" not in values and environ.get(ENV_PREFIX + "API_KEY"):
        values["api_keys"] = (environ[ENV_PREFIX + "API_KEY"],)
    unknown = set(values) - {f.name for f in fields(Settings)}
    if unknown:
        raise TypeError(f"no such settings: {sorted(unknown)}")
    return _checked(Settings(**values))


def _read(name: str, text: str, read: Any) -> Any:
    try:
        return read(text)
    except (ValueError, KeyError):
        raise EspalierError(f"{ENV_PREFIX}{name.upper()} is {text!r}, which is not a value for it") from None


def _checked(settings: Settings) -> Settings:
    if not 0 <= settings.port <= 65535:
        raise EspalierError(f"--port is {settings.port}; ports go from 0 to 65535")
    for name in ("drain_seconds", "receive_seconds", "request_seconds", "send_seconds"):
        if not 0 <= getattr(settings, name) < 1e6:
            raise EspalierError(f"{name} is {getattr(settings, name)}; expected 0 to 999999 seconds")
    if any(not key or not key.isascii() for key in settings.api_keys):
        raise EspalierError("an API key must be printable ASCII and not empty")
    return settings
