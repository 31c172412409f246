"""Arguments that a model writes as text between tags, as the JSON that their schema means."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from engine.answers.tool import Tool

MAX_SCHEMA_STEPS = 32  # of anyOf within anyOf


def schema_of(tools: Sequence[Tool], name: str, parameter: str) -> Mapping[str, Any]:
    """Of a tool's parameter; empty where nobody knows."""
    for tool in tools:
        if tool.name == name:
            properties = tool.parameters.get("properties")
            schema = properties.get(parameter) if isinstance(properties, Mapping) else None
            return schema if isinstance(schema, Mapping) else {}
    return {}


def types_of(schema: Mapping[str, Any]) -> set[str]:
    """The names of JSON's types that a value may have; empty: any."""
    types: set[str] = set()
    waiting: list[Any] = [schema]
    for _ in range(MAX_SCHEMA_STEPS):
        if not waiting:
            break
        one = waiting.pop()
        if not isinstance(one, Mapping):
            continue
        given = one.get("type")
        types |= {given} if isinstance(given, str) else set(given or ()) if isinstance(given, list) else set()
        if "enum" in one and given is None and isinstance(one["enum"], list):
            types |= {_type_of(value) for value in one["enum"]}
        for word in ("anyOf", "oneOf", "allOf"):
            if isinstance(one.get(word), list):
                waiting += one[word]
    return types


def _type_of(value: Any) -> str:
    names = {bool: "boolean", str: "string", int: "integer", float: "number", dict: "object", list: "array"}
    return names.get(type(value), "null")


def json_of(text: str, types: set[str]) -> str:
    """The value as JSON. A text that is no value of another type is a string, and one whose type nobody knows is the
    JSON that it spells, if it spells some."""
    if types == {"string"}:
        return json.dumps(text, ensure_ascii=False)
    value = _spelled(text.strip(), types)
    return json.dumps(text if value is None else value[0], ensure_ascii=False)


def _spelled(text: str, types: set[str]) -> tuple[Any] | None:
    """A value of one of the types (empty: of any but text); models write booleans and null as Python does, too."""
    words = {"True": True, "False": False, "None": None}
    try:
        value = words[text] if text in words else json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return None
    if isinstance(value, str) and "string" in types:
        return None  # quotes that the model wrote into a string
    if types and _type_of(value) not in types and not (isinstance(value, int) and "number" in types):
        return None
    return (value,)


def _no_constant(name: str) -> float:
    raise ValueError(name)
