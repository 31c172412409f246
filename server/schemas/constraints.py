"""The form that an answer must have: one thing with a dozen spellings, read into one `ConstraintSpec`.

Here only the outside is checked; what a schema or a grammar says is the compiler's to refuse. Fields that ask for
different forms are a 400, for no answer has both.
"""

from collections.abc import Callable, Mapping
from typing import Any

from engine.constraints.limits import MAX_CHARACTERS, MAX_ENUM
from engine.constraints.spec import ConstraintSpec
from server.body import parse_object
from server.errors import ApiError
from server.schemas.fields import RequestField, Use, Values
from server.schemas.values import Kind, text_of, wrong

KEY = "constraint"
MAX_SCHEMA_TEXT = 4 * MAX_CHARACTERS  # characters of a schema that comes as a text

_Read = Callable[[Any, str], ConstraintSpec | None]


def constraint_of(values: Values) -> ConstraintSpec | None:
    """Raises ApiError 400 where two fields ask for different forms."""
    given: list[ConstraintSpec] = [spec for spec in values.all(KEY) if spec is not None]
    for spec in given[1:]:
        if (spec.kind, spec.value) != (given[0].kind, given[0].value):
            both = (
                f"{given[0].param} and {spec.param} ask for different forms of the answer; send one of them"
            )
            raise ApiError(400, both, param=spec.param, code="invalid_constraint")
    return given[0] if given else None


def _schema(value: Any, name: str) -> ConstraintSpec:
    """An object, or the text of one, as SGLang's and vLLM's clients send it."""
    if isinstance(value, str):
        value = _parsed(value, name)
    if not isinstance(value, dict):
        raise wrong(name, "a JSON schema: an object")
    return ConstraintSpec("json_schema", value, name)


def _parsed(text: str, name: str) -> dict[str, Any]:
    if len(text) > MAX_SCHEMA_TEXT:
        raise wrong(name, f"a JSON schema of at most {MAX_SCHEMA_TEXT} characters")
    try:
        return parse_object(text_of(text, name).encode())
    except ApiError as error:
        told = error.message.removeprefix("the body")
        raise ApiError(400, f"{name} is no JSON schema: it{told}", param=name) from None


def _object(value: Any, name: str) -> ConstraintSpec | None:
    if not isinstance(value, bool):
        raise wrong(name, "true or false")
    return ConstraintSpec("json_object", None, name) if value else None


def _pattern(value: Any, name: str) -> ConstraintSpec:
    return ConstraintSpec("regex", _filled(value, name), name)


def _choice(value: Any, name: str) -> ConstraintSpec:
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_ENUM:
        raise wrong(name, f"a list of 1 to {MAX_ENUM} texts")
    return ConstraintSpec("choice", [text_of(text, name) for text in value], name)


def _grammar(value: Any, name: str) -> ConstraintSpec | None:
    """GBNF or Lark, which are told apart by how a rule is written; or TGI's object of a type and a value."""
    if isinstance(value, dict):
        return _typed(value, name)
    text = _filled(value, name)
    return ConstraintSpec("gbnf" if "::=" in text else "lark", text, name)


def _tags(value: Any, name: str) -> ConstraintSpec:
    if isinstance(value, str):
        value = _parsed(value, name)
    if not isinstance(value, dict):
        raise wrong(name, "an object with structures and triggers")
    return ConstraintSpec("structural_tag", value, name)


def _format(value: Any, name: str) -> ConstraintSpec:
    """Ollama's: "json", or a schema."""
    if value == "json":
        return ConstraintSpec("json_object", None, name)
    if not isinstance(value, dict):
        raise wrong(name, '"json" or a JSON schema')
    return _schema(value, name)


def _filled(value: Any, name: str) -> str:
    text = text_of(value, name)
    if not text:
        raise wrong(name, "a text that is not empty")
    return text


#: What an object with a `type` calls its form, and where it keeps it (the first that is there).
_TYPES: Mapping[str, tuple[_Read, tuple[str, ...]]] = {
    "json": (_schema, ("value", "schema")),
    "regex": (_pattern, ("value", "pattern", "regex")),
    "choice": (_choice, ("value", "choice")),
    "grammar": (_grammar, ("grammar", "value")),
    "ebnf": (_grammar, ("grammar", "value", "ebnf")),
    "lark": (_grammar, ("grammar", "value")),
    "gbnf": (_grammar, ("grammar", "value")),
}


def _typed(value: Any, name: str) -> ConstraintSpec | None:
    """OpenAI's response_format and what others add to it."""
    kind = value.get("type") if isinstance(value, dict) else None
    if kind == "text":
        return None
    if kind == "json_object":
        return _schema(value["schema"], f"{name}.schema") if value.get("schema") else _object(True, name)
    if kind == "json_schema":
        return _named_schema(value, name)
    if kind == "structural_tag":
        return _tags(value, name)
    if not isinstance(kind, str) or kind not in _TYPES:
        known = ", ".join(["text", "json_object", "json_schema", "structural_tag", *_TYPES])
        raise wrong(
            f"{name}.type" if isinstance(value, dict) else name, f"an object whose type is one of {known}"
        )
    read, places = _TYPES[kind]
    place = next((place for place in places if place in value), places[0])
    return read(value.get(place), f"{name}.{place}")


def _named_schema(value: Mapping[str, Any], name: str) -> ConstraintSpec:
    """{"json_schema": {"name", "strict", "schema"}}, or llama.cpp's {"schema"}. Strict or not, the schema holds."""
    if "json_schema" not in value and "schema" in value:
        return _schema(value["schema"], f"{name}.schema")
    named = value.get("json_schema")
    if not isinstance(named, dict):
        raise wrong(f"{name}.json_schema", "an object with a name and a schema")
    if not isinstance(named.get("strict"), bool | None):
        raise wrong(f"{name}.json_schema.strict", "true or false")
    return _schema(named.get("schema"), f"{name}.json_schema.schema")


#: The parts of vLLM's object.
_PARTS: Mapping[str, _Read] = {
    "json": _schema,
    "regex": _pattern,
    "choice": _choice,
    "grammar": _grammar,
    "json_object": _object,
    "structural_tag": _tags,
}
_PART_OPTIONS = (
    "disable_fallback",
    "disable_any_whitespace",
    "disable_additional_properties",
    "whitespace_pattern",
)


def _structured_outputs(value: Any, name: str) -> ConstraintSpec | None:
    if not isinstance(value, dict):
        raise wrong(name, f"an object with one of {', '.join(_PARTS)}")
    given = [part for part in _PARTS if value.get(part) not in (None, False)]
    for option in _PART_OPTIONS[1:]:
        if value.get(option):
            text = f"{name}.{option} is not supported by this server; leave it out"
            raise ApiError(400, text, param=f"{name}.{option}", code="unsupported_value")
    if not value.keys() <= {*_PARTS, *_PART_OPTIONS} or len(given) > 1:
        raise wrong(name, f"an object with one of {', '.join(_PARTS)}")
    return _PARTS[given[0]](value[given[0]], f"{name}.{given[0]}") if given else None


_OBJECT: dict[str, Any] = {"type": "object"}
_STRING: dict[str, Any] = {"type": "string"}
_EITHER: dict[str, Any] = {"anyOf": [_OBJECT, _STRING]}
_TEXTS: dict[str, Any] = {"type": "array", "items": _STRING, "minItems": 1, "maxItems": MAX_ENUM}


def _field(names: str, about: str, schema: Mapping[str, Any], read: _Read, **more: Any) -> RequestField:
    kind = Kind(schema, read)
    return RequestField(tuple(names.split()), Use.HONOURED, about, kind=kind, key=KEY, **more)


CONSTRAINT_FIELDS: tuple[RequestField, ...] = (
    _field(
        "response_format",
        "The form of the answer: `json_object`, `json_schema` (strict or not, it holds), `regex`, "
        "`choice`, `grammar`, `structural_tag`. What cannot be guided by is a 400 that names the part.",
        _OBJECT,
        _typed,
        nothing=({"type": "text"},),
    ),
    _field(
        "structured_outputs",
        "The same, as vLLM has it: one of `json`, `regex`, `choice`, `grammar`, `json_object`, `structural_tag`.",
        _OBJECT,
        _structured_outputs,
    ),
    _field("guided_json json_schema", "A JSON schema, or its text.", _EITHER, _schema),
    _field("guided_json_object", "A JSON object.", {"type": "boolean"}, _object),
    _field(
        "guided_regex regex regex_pattern",
        "A regular expression that the whole answer matches. A digit is one of 0 to 9; there is no look-around.",
        _STRING,
        _pattern,
    ),
    _field("guided_choice choice", "One of these texts.", _TEXTS, _choice),
    _field(
        "guided_grammar grammar grammar_string ebnf",
        "A grammar, GBNF or Lark; or an object of a `type` and a `value`.",
        _EITHER,
        _grammar,
    ),
    _field("structural_tag", "Beginnings that oblige the answer to a schema.", _EITHER, _tags),
    _field("format", '"json", or a JSON schema.', _EITHER, _format),
)
