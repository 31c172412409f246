"""Words that the schemas of answers are made of."""

from typing import Any

TEXT: dict[str, Any] = {"type": "string"}
COUNT: dict[str, Any] = {"type": "integer", "minimum": 0}
NONE: dict[str, Any] = {"type": "null"}
NUMBER: dict[str, Any] = {"type": "number"}
IDS: dict[str, Any] = {"type": "array", "items": COUNT}


def object_of(required: dict[str, Any], **optional: Any) -> dict[str, Any]:
    return {"type": "object", "required": list(required), "properties": {**required, **optional}}


def list_of(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


def or_none(schema: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [schema, NONE]}


def ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}
