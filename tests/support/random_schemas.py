"""Random JSON schemas whose every answer ends: what may repeat has a bound, and no property is free."""

import random
from typing import Any

NAMES = ("name", "age", "id", "tags", "first name", "größe", "a", "x-y", "items", "type", "$ref!", "note")
PATTERNS = ("^[a-z]{1,4}$", "^[A-Z][a-z]{0,3}(-[0-9]{1,2})?$", "^(yes|no)$", "^#[0-9a-f]{3}$")
FORMATS = ("date", "time", "date-time", "uuid", "ipv4", "email")


def random_schema(draw: random.Random, max_depth: int = 3) -> dict[str, Any]:
    """An object at the top, as structured output has it; now and then with definitions or in a circle."""
    schema = _object(draw, max_depth)
    if draw.random() < 0.15:
        schema["$defs"] = {"leaf": _leaf(draw)}
        schema["properties"]["leaf"] = {"$ref": "#/$defs/leaf"}
        schema["required"].append("leaf")
    if draw.random() < 0.1:
        kind = {
            "anyOf": [{"type": "null"}, {"type": "array", "items": {"$ref": "#/$defs/node"}, "maxItems": 1}]
        }
        node = {
            "type": "object",
            "properties": {"next": kind},
            "required": ["next"],
            "additionalProperties": False,
        }
        schema.setdefault("$defs", {})["node"] = node
        schema["properties"]["node"] = {"$ref": "#/$defs/node"}
    return schema


def _any(draw: random.Random, depth: int) -> dict[str, Any]:
    """depth: objects and lists that may still lie within it."""
    if depth <= 0 or draw.random() < 0.5:
        return _leaf(draw)
    return draw.choice((_object, _array, _choice, _tuple, _nullable))(draw, depth)


def _object(draw: random.Random, depth: int) -> dict[str, Any]:
    names = draw.sample(NAMES, draw.randint(1, 4))
    return {
        "type": "object",
        "properties": {name: _any(draw, depth - 1) for name in names},
        "required": [name for name in names if draw.random() < 0.7],
        "additionalProperties": False,
    }


def _array(draw: random.Random, depth: int) -> dict[str, Any]:
    least = draw.randint(0, 2)
    return {
        "type": "array",
        "items": _any(draw, depth - 1),
        "minItems": least,
        "maxItems": least + draw.randint(0, 2),
    }


def _tuple(draw: random.Random, depth: int) -> dict[str, Any]:
    parts = [_any(draw, depth - 1) for _ in range(draw.randint(1, 3))]
    return {"type": "array", "prefixItems": parts, "items": False, "minItems": len(parts)}


def _choice(draw: random.Random, depth: int) -> dict[str, Any]:
    return {"anyOf": [_any(draw, depth - 1) for _ in range(draw.randint(2, 3))]}


def _nullable(draw: random.Random, depth: int) -> dict[str, Any]:
    return {"anyOf": [_object(draw, depth - 1), {"type": "null"}]}


def _leaf(draw: random.Random) -> dict[str, Any]:
    return draw.choice((_text, _integer, _number, _enum, _plain))(draw)


def _text(draw: random.Random) -> dict[str, Any]:
    kind = draw.random()
    if kind < 0.3:
        return {"type": "string", "pattern": draw.choice(PATTERNS)}
    if kind < 0.45:
        return {"type": "string", "format": draw.choice(FORMATS), "maxLength": 40}
    least = draw.randint(0, 3)
    return {"type": "string", "minLength": least, "maxLength": least + draw.randint(0, 6)}


def _integer(draw: random.Random) -> dict[str, Any]:
    lowest = draw.randint(-1000, 1000)
    schema: dict[str, Any] = {"type": "integer", "minimum": lowest, "maximum": lowest + draw.randint(0, 5000)}
    if draw.random() < 0.2:
        schema = {"type": "integer", "multipleOf": draw.choice((2, 5, 7)), "minimum": 0, "maximum": 700}
    if draw.random() < 0.2:
        schema["exclusiveMaximum"] = schema.pop("maximum") + 1
    return schema


def _number(draw: random.Random) -> dict[str, Any]:
    return {
        "type": "number",
        "minimum": 0,
        "maximum": draw.randint(1, 100),
        "multipleOf": draw.choice((0.5, 0.25)),
    }


def _enum(draw: random.Random) -> dict[str, Any]:
    values = ["red", "blue", 'quo"te', "é", 1, -2.5, True, None, {"a": [1]}, "a\nb"]
    if draw.random() < 0.2:
        return {"const": draw.choice(values)}
    return {"enum": draw.sample(values, draw.randint(1, 5))}


def _plain(draw: random.Random) -> dict[str, Any]:
    return {"type": draw.choice(["boolean", "null", ["boolean", "null"]]), "description": "plain"}
