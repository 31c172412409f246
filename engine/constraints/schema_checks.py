"""A JSON schema before it is compiled: its size, its depth, and the parts that no compiler should see.

Every refusal names the part: `response_format.json_schema.schema.properties.a.pattern`.
"""

import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from engine.constraints.finite_schemas import has_finite_answer
from engine.constraints.limits import (
    MAX_CHARACTERS,
    MAX_DEPTH,
    MAX_ENUM,
    MAX_INTEGER,
    MAX_LEAST,
    MAX_MOST,
    MAX_MULTIPLE,
    MAX_NODES,
    MAX_TOGETHER,
)
from engine.constraints.spec import invalid
from engine.constraints.text_checks import check_pattern

_LEAST = ("minLength", "minItems", "minProperties")
_MOST = ("maxLength", "maxItems", "maxProperties")
_MAX_REF_HOPS = 64
_NOTHING = object()
_PLAIN_KEY = re.compile(r"[A-Za-z0-9_$-]{1,64}")


def check_schema(schema: Any, param: str) -> None:
    """Raises RequestError naming the part that no answer could be guided by."""
    if not isinstance(schema, dict | bool):
        raise invalid(param, "must be a JSON schema: an object")
    if schema is False:
        raise invalid(param, "is false, which no answer satisfies")
    n_characters = 0
    for n_nodes, (path, value, depth) in enumerate(_walk(schema, param), 1):
        n_characters += len(value) if isinstance(value, str) else 0
        if depth > MAX_DEPTH:
            raise invalid(param, f"is nested more than {MAX_DEPTH} deep")
        if n_nodes > MAX_NODES:
            raise invalid(param, f"has more than {MAX_NODES} values in it")
        if n_characters > MAX_CHARACTERS:
            raise invalid(param, f"has texts of more than {MAX_CHARACTERS} characters together")
        _check_value(path, value)
        if isinstance(value, dict):
            _check_keywords(schema, path, value)
    if isinstance(schema, dict) and not has_finite_answer(schema, lambda ref: _target(schema, ref)):
        raise invalid(param, "requires parts that lead back to themselves, so that no answer ever ends")


def place_of(schema: Any, param: str, keyword: str) -> str:
    """The first part of the schema with that keyword; the whole schema where none has it."""
    for path, value, _ in _walk(schema, param):
        if isinstance(value, dict) and keyword in value and not path.endswith(".properties"):
            return f"{path}.{keyword}"
    return param


def _walk(value: Any, param: str) -> Iterator[tuple[str, Any, int]]:
    """Every value with its path and depth, without recursion."""
    waiting = [(param, value, 0)]
    while waiting:
        path, value, depth = waiting.pop()
        yield path, value, depth
        if isinstance(value, dict):
            waiting += [(f"{path}.{_shown(key)}", part, depth + 1) for key, part in reversed(value.items())]
        elif isinstance(value, list):
            waiting += [(f"{path}[{i}]", part, depth + 1) for i, part in reversed(list(enumerate(value)))]


def _shown(key: str) -> str:
    """Names of properties are the client's own; one with strange characters is not repeated."""
    return key if _PLAIN_KEY.fullmatch(key) else "?"


def _check_value(path: str, value: Any) -> None:
    if isinstance(value, int) and abs(value) > MAX_INTEGER:
        raise invalid(path, "is an integer of more than 64 bits")
    if isinstance(value, list) and len(value) > MAX_ENUM:
        raise invalid(path, f"has {len(value)} entries; at most {MAX_ENUM} are compiled")


def _check_keywords(root: Any, path: str, schema: Mapping[str, Any]) -> None:
    """Of an object that may be a schema. A property can have a keyword's name: then its value is an object."""
    for keyword, limit in (
        *dict.fromkeys(_LEAST, MAX_LEAST).items(),
        *dict.fromkeys(_MOST, MAX_MOST).items(),
    ):
        count = schema.get(keyword)
        if isinstance(count, int | float) and count > limit:
            raise invalid(f"{path}.{keyword}", f"is {count}; at most {limit} is compiled")
    if isinstance(schema.get("pattern"), str):
        check_pattern(schema["pattern"], f"{path}.pattern")
    if isinstance(schema.get("patternProperties"), dict):
        for pattern in schema["patternProperties"]:
            check_pattern(pattern, f"{path}.patternProperties")
    if isinstance(schema.get("allOf"), list):
        patterns = [part for part in schema["allOf"] if isinstance(part, dict) and "pattern" in part]
        if len(patterns) > MAX_TOGETHER:
            raise invalid(f"{path}.allOf", f"has more than {MAX_TOGETHER} patterns for one text")
    if isinstance(schema.get("multipleOf"), int | float):
        _check_multiple(schema["multipleOf"], f"{path}.multipleOf")
    if isinstance(schema.get("$ref"), str):
        _check_reference(root, schema["$ref"], f"{path}.$ref")


def _check_multiple(value: float, path: str) -> None:
    digits = Decimal(repr(value)).normalize()
    whole = digits.scaleb(max(0, -int(digits.as_tuple().exponent)))
    if not 0 < whole <= MAX_MULTIPLE:
        raise invalid(path, f"must have digits that make a number from 1 to {MAX_MULTIPLE}")


def _check_reference(root: Any, reference: str, path: str) -> None:
    """A chain of references must lead to something: one that leads to itself says nothing."""
    seen: set[str] = set()
    target: Any = {"$ref": reference}
    while isinstance(target, dict) and isinstance(target.get("$ref"), str):
        reference = target["$ref"]
        if reference in seen or len(seen) > _MAX_REF_HOPS:
            raise invalid(path, "leads to itself and to nothing else")
        seen.add(reference)
        if reference.startswith("#/"):
            target = _target(root, reference)
            if target is _NOTHING:
                raise invalid(path, "leads to nothing in the schema")
        elif reference == "#":
            target = None  # the whole schema, which is checked where it begins
        elif reference.startswith("#"):
            target = None  # an anchor, which the compiler looks for
        else:
            raise invalid(path, "leads out of the schema, and nothing is fetched; put it under $defs")


def _target(root: Any, reference: str) -> Any:
    """What a local reference leads to: None where the compiler has to tell, _NOTHING where there is nothing."""
    if reference == "#":
        return root
    target = root
    for part in reference.split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        if isinstance(target, dict) and name in target:
            target = target[name]
        elif isinstance(target, list) and name.isdecimal() and len(name) < 6 and int(name) < len(target):
            target = target[int(name)]
        else:
            return None if "%" in part else _NOTHING  # an escape of URLs
    return target if reference.startswith("#/") else None
