"""Whether a schema has an answer that ends: one whose required parts lead back to itself has none.

A part is known to end when its required parts are; what is never known to end is a circle. Parts that are not looked
at (patterns, keywords that are refused elsewhere) count as ending.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

MAX_ROUNDS = (
    20  # over all parts, from either end in turns; a knot of references that takes more counts as ending
)

_Resolve = Callable[[str], Any]


def has_finite_answer(root: Mapping[str, Any], resolve: _Resolve) -> bool:
    """resolve: the part that a local reference leads to, None for one that is not known."""
    parts = list(_parts(root))
    ending: set[int] = set()  # ids of parts; the schema keeps them alive
    for _ in range(MAX_ROUNDS):
        parts.reverse()  # the innermost parts first, to begin with
        n_before = len(ending)
        for part in parts:
            if id(part) not in ending and _ends(part, ending, resolve):
                ending.add(id(part))
        if id(root) in ending:
            return True
        if len(ending) == n_before:
            return False
    return True


def _parts(root: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    waiting: list[Any] = [root]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            yield value
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value


def _ends(part: Mapping[str, Any], ending: set[int], resolve: _Resolve) -> bool:
    def known(value: Any) -> bool:
        return not isinstance(value, dict) or id(value) in ending

    if "enum" in part or "const" in part:
        return True
    needed = [resolve(part["$ref"])] if isinstance(part.get("$ref"), str) else []
    needed += _listed(part, "allOf")
    for keyword in ("anyOf", "oneOf"):
        branches = _listed(part, keyword)
        if branches and not any(map(known, branches)):
            return False
    kinds = part.get("type", "object")
    kinds = kinds if isinstance(kinds, list) else [kinds]
    if kinds == ["object"] or "type" not in part:
        needed += _required(part)
    if kinds == ["array"]:
        needed += _items(part)
    return all(map(known, needed))


def _listed(part: Mapping[str, Any], keyword: str) -> list[Any]:
    value = part.get(keyword)
    return value if isinstance(value, list) else []


def _required(part: Mapping[str, Any]) -> list[Any]:
    properties = part.get("properties")
    if not isinstance(properties, dict):
        return []
    return [properties.get(name) for name in _listed(part, "required") if isinstance(name, str)]


def _items(part: Mapping[str, Any]) -> list[Any]:
    """Those that a list must have."""
    least = part.get("minItems", 0)
    if not isinstance(least, int) or least < 1:
        return []
    first = _listed(part, "prefixItems")[:least]
    return first if len(first) >= least else [*first, part.get("items")]
