"""docs/configuration.md and docs/command-line.md, from server/settings.py and the commands themselves."""

from collections.abc import Iterator
from dataclasses import Field, fields
from typing import Any

import typer

from server.settings import Settings, default_text, env_name, flag_name
from tools.cli import app
from tools.reference_tables import markdown_table, page


def configuration_page() -> str:
    """Every setting of the server."""
    return page(
        "Configuration",
        "Every setting of `espalier serve`. A flag beats its environment variable, which beats the default; an empty "
        "variable counts as not set. Sizes are bytes, or 512M, 2G and the like.",
        markdown_table(
            ("flag", "environment variable", "default", "meaning"), map(_setting_row, fields(Settings))
        ),
    )


def command_line_page() -> str:
    """Every command, argument and option."""
    group: Any = typer.main.get_command(app)
    return page(
        "Command line",
        "Bad input is one line on stderr and exit status 2, output that cannot be written status 1, SIGINT 130, "
        "SIGTERM 143 (a server that answers drains, and ends with 0). `espalier --install-completion` teaches "
        "the shell to complete commands and options; `espalier --version` prints the version.",
        *(part for name in group.commands for part in _command(name, group.commands[name])),
    )


def _setting_row(setting: Field) -> tuple[str, ...]:
    shown = (
        "MODEL"
        if setting.name == "model"
        else f"`{flag_name(setting.name)}`"
        if setting.metadata["flag"]
        else ""
    )
    return shown, f"`{env_name(setting.name)}`", default_text(setting), setting.metadata["help"]


def _command(name: str, command: Any) -> Iterator[str]:
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    usage = " ".join(p.name.upper() if p.required else f"[{p.name.upper()}]" for p in arguments)
    yield f"## espalier {name} {usage}".rstrip()
    yield " ".join((command.help or "").split())
    rows = [_parameter_row(p) for p in command.params if p.name != "help"]
    if rows:
        yield markdown_table(("", "meaning"), rows)


def _parameter_row(parameter: Any) -> tuple[str, ...]:
    name = parameter.name.upper() if parameter.param_type_name == "argument" else parameter.opts[0]
    text = (parameter.help or "").replace("\\[", "[")
    default = parameter.default
    if "[default:" not in text and default not in (None, False, (), "") and not callable(default):
        text += f" [default: {default}]"
    return f"`{name}`", text.strip()
