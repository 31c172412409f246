"""Random JSON by a schema of openapi.json, and JSON that no schema asked for."""

import random
from collections.abc import Mapping
from typing import Any

TEXTS = [
    "",
    " ",
    "a",
    "the inn",
    "é 🤗 媽",
    "</s><s>",
    "\n\t\x00",
    "null",
    "none",
    "auto",
    "5",
    "x" * 300,
    "{}",
    "[",
]
NUMBERS = [
    0,
    1,
    -1,
    2,
    7,
    0.5,
    -0.5,
    1e-9,
    5e-324,
    1e308,
    127,
    128,
    2**31 - 1,
    2**31,
    2**63,
    -(2**63),
    2**64,
    1e3,
]
DEPTH = 4


def value_by(
    schema: Mapping[str, Any], components: Mapping[str, Any], rng: random.Random, depth: int = 0
) -> Any:
    """A value that the schema allows, as far as JSON Schema's words that are used here say it."""
    if "$ref" in schema:
        return value_by(components[schema["$ref"].rpartition("/")[2]], components, rng, depth)
    if "const" in schema or "enum" in schema:
        return rng.choice(schema.get("enum", [schema.get("const")]))
    for word in ("anyOf", "oneOf"):
        if word in schema:
            return value_by(rng.choice(schema[word]), components, rng, depth)
    kind = schema.get("type")
    kind = rng.choice(kind) if isinstance(kind, list) else kind
    if kind == "object":
        return _object(schema, components, rng, depth)
    if kind == "array":
        return _array(schema, components, rng, depth)
    if kind in ("integer", "number"):
        return _number(schema, kind, rng)
    plain = {"string": lambda: rng.choice(TEXTS), "boolean": lambda: rng.random() < 0.5, "null": lambda: None}
    return plain[kind]() if kind in plain else any_value(rng, depth)


def any_value(rng: random.Random, depth: int = 0) -> Any:
    kind = rng.randrange(7 if depth < DEPTH else 5)
    if kind == 5:
        return [any_value(rng, depth + 1) for _ in range(rng.randrange(4))]
    if kind == 6:
        return {rng.choice(TEXTS): any_value(rng, depth + 1) for _ in range(rng.randrange(4))}
    return rng.choice([rng.choice(TEXTS), rng.choice(NUMBERS), True, False, None])


def _object(schema: Mapping[str, Any], components: Mapping[str, Any], rng: random.Random, depth: int) -> Any:
    properties, required = schema.get("properties", {}), schema.get("required", [])
    more = [name for name in properties if name not in required]
    n_more = rng.randrange(min(len(more), 6) + 1) if depth < DEPTH else 0
    made = {
        name: value_by(properties[name], components, rng, depth + 1)
        for name in [*required, *rng.sample(more, n_more)]
        if name in properties
    }
    extra = schema.get("additionalProperties")
    if isinstance(extra, dict):
        made |= {
            str(rng.randrange(9)): value_by(extra, components, rng, depth + 1)
            for _ in range(rng.randrange(3))
        }
    return made


def _array(schema: Mapping[str, Any], components: Mapping[str, Any], rng: random.Random, depth: int) -> Any:
    if "prefixItems" in schema:
        return [value_by(each, components, rng, depth + 1) for each in schema["prefixItems"]]
    least, most = schema.get("minItems", 0), schema.get("maxItems", 4)
    length = rng.randint(least, max(least, min(most, 4)))
    return [value_by(schema.get("items", {}), components, rng, depth + 1) for _ in range(length)]


def _number(schema: Mapping[str, Any], kind: str, rng: random.Random) -> Any:
    lowest, highest = schema.get("minimum", -(2**70)), schema.get("maximum", 2**70)
    fitting = [n for n in NUMBERS if lowest <= n <= highest and (kind == "number" or n == int(n))]
    value = rng.choice(
        [*fitting, *(end for end in (lowest, highest) if abs(end) < 2**70), *([] if fitting else [0])]
    )
    return int(value) if kind == "integer" else value
