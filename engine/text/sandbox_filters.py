"""The filters a chat template may use, each bounded. Those that only web pages need are not here.

Results are plain strings: nothing is escaped for HTML, and tojson writes what Hugging Face's templates
expect. A filter that Jinja leaves lazy does its work at once: a chain of lazy filters is a nest of generators,
and where CPython drops one of 20 000 it runs out of C stack.
"""

import functools
import json
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import TYPE_CHECKING, Any

from jinja2 import filters as jinja_filters
from jinja2.exceptions import FilterArgumentError
from jinja2.utils import pass_environment
from markupsafe import escape

from engine.text.budget import MIN_TREE, exceeded
from engine.text.messages import parse_json
from engine.text.sandbox_strings import BYTES_PER_PIECE, MAX_WIDTH, check_percent, check_replace, check_width

if TYPE_CHECKING:
    from engine.text.sandbox import Sandbox

KEPT = frozenset(
    {"abs", "attr", "batch", "capitalize", "center", "count", "d", "default", "dictsort", "first", "float"}
    | {"format", "groupby", "indent", "int", "items", "last", "length", "list", "lower", "map", "max", "min"}
    | {"reject", "rejectattr", "replace", "reverse", "round", "select", "selectattr", "slice", "sort"}
    | {"string", "title", "trim", "truncate", "unique", "upper", "wordcount"}
)
# These walk through their value; the others look at it in time that its size, once paid for, bounds.
WALKING = frozenset(
    {"batch", "dictsort", "groupby", "items", "list", "map", "max", "min", "reject", "rejectattr"}
    | {"reverse", "select", "selectattr", "slice", "sort", "sum", "unique", "join"}
)
# These look at the length, at the ends or at single items; the others may compare or print whole trees.
SHALLOW = frozenset(
    {"batch", "count", "d", "default", "first", "items", "last", "length", "list", "reverse", "slice"}
)
# Given a null or a mapping, these write Python's word for it.
PRINTING = frozenset(
    {"capitalize", "center", "e", "escape", "format", "indent", "lower", "replace", "safe", "string"}
    | {"title", "trim", "truncate", "upper", "wordcount"}
)
WITH_SIZES = frozenset({"batch", "center", "indent", "round", "slice"})


def bounded_filters(sandbox: "Sandbox") -> dict[str, Callable[..., Any]]:
    """The filters by name, each counting on the sandbox's budget."""
    plain: dict[str, Callable[..., Any]] = {name: jinja_filters.FILTERS[name] for name in KEPT}
    plain |= {"e": _escape, "escape": _escape, "safe": str, "sum": _sum, "join": _join, "tojson": _tojson}
    plain |= {"from_json": _from_json, "fromjson": _from_json}
    return {name: _bounded(sandbox, name, function) for name, function in plain.items()}


def _bounded(sandbox: "Sandbox", name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    # The value comes after the context or environment, where the function takes one.
    place = 1 if hasattr(function, "jinja_pass_arg") else 0

    @functools.wraps(function)
    def bounded(*args: Any, **kwargs: Any) -> Any:
        value, options = args[place], [*args[place + 1 :], *kwargs.values()]
        walks = name in WALKING and isinstance(value, Sized)
        sandbox.step(1 + (len(value) if walks else 0))
        if name not in SHALLOW:
            sandbox.weigh(value)
        if name in PRINTING or (name == "tojson" and value is None):
            sandbox.unprintable.check(value)
        for printed in options if name == "format" else ():
            sandbox.unprintable.check(printed)
        _check_sizes(sandbox, name, value, options)
        result = function(*args, **kwargs)
        if name == "replace":
            result = sandbox.replaced(str(value), str(options[0]), str(options[1]), result)
        if isinstance(result, Iterator):
            return iter(sandbox.admit(list(sandbox.counted(result))))
        return sandbox.admit(result)

    return bounded


def _check_sizes(sandbox: "Sandbox", name: str, value: Any, options: list[Any]) -> None:
    if name in WITH_SIZES and any(isinstance(n, int) and abs(n) > MAX_WIDTH for n in options):
        raise exceeded(f"a size beyond {MAX_WIDTH} in the filter {name}")
    if name == "center":
        check_width(sandbox.budget, str(value), options)
    elif name == "indent":
        width = max((len(o) if isinstance(o, str) else int(o) for o in options), default=4)
        sandbox.budget.require(4 * (len(value) + width * (value.count("\n") + 1)))
    elif name in ("title", "wordcount"):  # both cut the text into words
        sandbox.budget.require(BYTES_PER_PIECE * len(str(value)))
    elif name == "replace":
        check_replace(sandbox.budget, str(value), [str(o) for o in options[:2]])
    elif name == "format":
        check_percent(sandbox.budget, str(value), options)


def _escape(value: Any) -> str:
    return str(escape(value))


def _sum(values: Iterable[Any], attribute: str | int | None = None, start: Any = 0) -> Any:
    """Numbers only: adding up lists copies each of them again and again."""
    if not isinstance(start, int | float):
        raise FilterArgumentError("sum adds numbers")
    items = values if attribute is None else [item[attribute] for item in values]
    return sum(items, start)


@pass_environment
def _join(sandbox: "Sandbox", values: Iterable[Any], d: str = "", attribute: str | int | None = None) -> str:
    get = jinja_filters.make_attrgetter(sandbox, attribute) if attribute is not None else lambda item: item
    texts = [sandbox.text_of(get(item)) for item in values]
    sandbox.budget.require(4 * len(texts) * len(str(d)))
    return str(d).join(texts)


@pass_environment
def _tojson(
    sandbox: "Sandbox",
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    if indent is not None and not 0 <= indent <= 16:
        raise exceeded("an indent beyond 16 in tojson")
    if separators is not None and sum(map(len, separators)) > 16:
        raise exceeded("separators of more than 16 characters in tojson")
    if isinstance(value, Iterator):  # another filter's result, which is only written as lazy
        value = sandbox.admit(list(sandbox.counted(value)))
    size, height = sandbox.budget.tree(value)
    n_values = size // MIN_TREE
    sandbox.step(n_values)  # with an indent the writer is a Python loop
    sandbox.budget.require(size + n_values * (16 + (indent or 0) * height))
    text = json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )
    return sandbox.guard.unescaped(text) if ensure_ascii else text


@pass_environment
def _from_json(sandbox: "Sandbox", text: str) -> Any:
    """The value of a JSON text. Its strings are a user's: an escape in them can spell a control token."""
    if not isinstance(text, str):
        raise FilterArgumentError("from_json reads a string")
    sandbox.budget.require(BYTES_PER_PIECE * len(text))
    return sandbox.guard.guarded(parse_json(text.replace(sandbox.guard.mark, "")))
