"""Strings in the sandbox: which methods a template may call, and how large a result may become beforehand."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jinja2.exceptions import SecurityError

from engine.text.budget import Budget, exceeded

BYTES_PER_CHARACTER = 4  # at most, in a Python string
BYTES_PER_PIECE = 64  # a short string and its place in a list
MAX_WIDTH = 10_000

LINEAR_METHODS = frozenset(
    {"capitalize", "casefold", "count", "endswith", "find", "index", "isalnum", "isalpha", "isascii"}
    | {"isdecimal", "isdigit", "isidentifier", "islower", "isnumeric", "isprintable", "isspace", "istitle"}
    | {"isupper", "lower", "lstrip", "partition", "removeprefix", "removesuffix", "rfind", "rindex"}
    | {"rpartition", "rstrip", "startswith", "strip", "swapcase", "title", "upper"}
)
CUTTING_METHODS = frozenset(
    {"split", "rsplit", "splitlines", "partition", "rpartition", "removeprefix", "removesuffix"}
    | {"strip", "lstrip", "rstrip"}
)

# The flags, the width and the precision of a % directive; of a {} field every number.
PERCENT = re.compile(r"%(?:\([^)]*\))?[-#0 +]*(\*|\d*)(?:\.(\*|\d*))?")
NUMBER = re.compile(r"\d+")


def check_width(budget: Budget, text: str, args: Sequence[Any]) -> None:
    budget.require(BYTES_PER_CHARACTER * max(len(text), *(a for a in args if isinstance(a, int)), 0))


def check_pieces(budget: Budget, text: str, args: Sequence[Any]) -> None:
    separator = args[0] if args and isinstance(args[0], str) and args[0] else None
    pieces = text.count(separator) if separator else len(text) // 2
    budget.require(BYTES_PER_PIECE * pieces + BYTES_PER_CHARACTER * len(text))


def check_replace(budget: Budget, text: str, args: Sequence[Any]) -> None:
    if len(args) >= 2 and isinstance(args[0], str) and isinstance(args[1], str):
        growth = text.count(args[0]) * len(args[1])
        budget.require(BYTES_PER_CHARACTER * (len(text) + growth))


def check_join(budget: Budget, text: str, args: Sequence[Any]) -> None:
    items = args[0] if args and isinstance(args[0], str | list | tuple) else ()
    length = sum(len(item) for item in items if isinstance(item, str)) + len(text) * len(items)
    budget.require(BYTES_PER_CHARACTER * length)


CHECKED_METHODS: dict[str, Callable[[Budget, str, Sequence[Any]], None]] = {
    "center": check_width,
    "ljust": check_width,
    "rjust": check_width,
    "zfill": check_width,
    "split": check_pieces,
    "rsplit": check_pieces,
    "splitlines": check_pieces,
    "replace": check_replace,
    "join": check_join,
}


def check_method(budget: Budget, text: str, name: str, args: list[Any], kwargs: Mapping[str, Any]) -> None:
    """Before text.name(*args, **kwargs). An iterator to be joined becomes a list, to be measured.

    Raises SecurityError for a method templates may not call, RequestError for a result beyond the budget.
    """
    if name == "format":
        check_braces(budget, text, [*args, *kwargs.values()])
    elif check := CHECKED_METHODS.get(name):
        if name == "join" and args and not isinstance(args[0], str | list | tuple):
            args[0] = list(args[0])
        check(budget, text, [*args, *kwargs.values()])
    elif name not in LINEAR_METHODS:
        raise SecurityError(f"a template may not call str.{name}")


def check_percent(budget: Budget, text: str, values: Any) -> None:
    """Before text % values."""
    directives = PERCENT.findall(text)
    sizes = [size for directive in directives for size in directive if size]
    _check_format(budget, text, sizes, len(directives), values)


def percent_values(text: str, values: Any) -> Sequence[Any]:
    """What text % values prints."""
    if isinstance(values, Mapping) and "%(" not in text:
        return (values,)
    return _flat(values)


def check_braces(budget: Budget, text: str, values: Any) -> None:
    """Before text.format(values). Every number counts as a width: a field's name is seldom a large one."""
    if re.search(r"\{[^{}]*\{", text.replace("{{", "")):
        raise exceeded("a format whose width is computed")
    _check_format(budget, text, NUMBER.findall(text), text.count("{"), values)


def _check_format(budget: Budget, text: str, sizes: list[str], n_values: int, values: Any) -> None:
    if any(size == "*" or len(size) > 4 for size in sizes):
        raise exceeded("a format width of five digits or more")
    longest = max(map(_printed_length, _flat(values)), default=0)
    length = len(text) + sum(map(int, sizes)) + n_values * longest
    budget.require(BYTES_PER_CHARACTER * length)


def _flat(values: Any) -> Sequence[Any]:
    if isinstance(values, Mapping):
        return list(values.values())
    return values if isinstance(values, list | tuple) else (values,)


def _printed_length(value: Any) -> int:
    return len(value) if isinstance(value, str) else len(str(value))
