"""What a template finds beside its variables: functions of Hugging Face's, and namespaces."""

import datetime
import json
from typing import Any

from jinja2.exceptions import TemplateError
from jinja2.utils import Namespace

from engine.errors import RequestError
from engine.text.budget import exceeded


class SilentNamespace(Namespace):
    """A namespace may hold itself; printing it would not end."""

    def __repr__(self) -> str:
        return "<namespace>"


def bounded_range(*args: int) -> range:
    """Lazy, so its length costs nothing; walking through it is counted."""
    values = range(*args)
    if len(values) > 100_000:
        raise exceeded("a range of more than 100000")
    return values


def raise_exception(message: Any) -> None:
    """How templates refuse messages they cannot render."""
    raise RequestError(
        one_line(f"the model's chat template refuses these messages: {message}"), param="messages"
    )


def strftime_now(template: str) -> str:
    if len(template) > 100:
        raise exceeded("a date format of more than 100 characters")
    return datetime.datetime.now().strftime(template)


def functions_told(tools: Any) -> dict[str, str]:
    """The variables of templates that take tools as a text and ask for the time, as Firefunction's does."""
    now = datetime.datetime.now(datetime.UTC)
    text = json.dumps(tools, ensure_ascii=False, indent=2) if tools else ""
    return {"functions": text, "datetime": now.strftime("%b %d %Y %H:%M:%S GMT")}


def one_line(text: object) -> str:
    return " ".join(str(text)[:300].split())


def compile_error(error: BaseException) -> str:
    """Where and why a template does not compile."""
    line = f" (line {error.lineno})" if isinstance(error, TemplateError) and hasattr(error, "lineno") else ""
    return one_line(f"{error or type(error).__name__}{line}")
