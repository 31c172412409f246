"""What stands between texts of strangers and a terminal: names in files, model output, log lines.

A terminal obeys control characters (ESC begins a command), and rich reads brackets as markup; a name may hold both.
"""

import contextlib
import logging
import sys
import unicodedata
from typing import TextIO

from rich.text import Text


def printable(text: str, stream: TextIO | None = None) -> str:
    """One line, with what a terminal or the stream's encoding could not show as it is escaped. None: stdout."""
    safe = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    encoding = getattr(stream or sys.stdout, "encoding", None) or "ascii"
    return safe.encode(encoding, "backslashreplace").decode(encoding)


def without_controls(text: str) -> str:
    """A model's text as a terminal may have it: lines, tabs and joined emoji stay, control characters are escaped."""
    return "".join(ascii(c)[1:-1] if unicodedata.category(c) == "Cc" and c not in "\n\t" else c for c in text)


def plain(*parts: str | tuple[str, str], stream: TextIO | None = None) -> Text:
    """For rich: each part as it is, or (part, style); none of it is markup."""
    return Text.assemble(
        *(
            printable(part, stream) if isinstance(part, str) else (printable(part[0], stream), part[1])
            for part in parts
        )
    )


def say(message: str) -> None:
    """A line on standard error; where nobody can take it, it is lost and nothing else is."""
    with contextlib.suppress(OSError):
        print(f"espalier: {printable(message, sys.stderr)}", file=sys.stderr, flush=True)


class LogFormatter(logging.Formatter):
    """A record's message is one line, whatever was put into it; a traceback follows as it is."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        return printable(super().formatMessage(record), sys.stderr)
