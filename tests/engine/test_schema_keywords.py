"""The keywords of JSON Schema that answers are guided by, each with answers that it lets through and stops; and those
that are refused by name. docs/structured_output.md has the same lists.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from engine.constraints import Compiler, ConstraintSpec
from engine.errors import GuideError, RequestError
from engine.text.tokenizer import load_tokenizer
from support.guided_text import allowed_ids
from support.vocabularies import bpe_metadata

BPE = load_tokenizer(bpe_metadata())
COMPILER = Compiler(BPE, BPE.eos_ids)
BYTES = {BPE.token_bytes(i): i for i in reversed(range(BPE.n_vocab))}
PAGE = Path(__file__).parents[2] / "docs" / "structured_output.md"

#: keyword -> a schema, values that it allows, values that it does not.
GUIDED: dict[str, tuple[Any, list[Any], list[Any]]] = {
    "type": ({"type": ["integer", "null"]}, [1, None], [1.5, "1", True, [], {}]),
    "enum": ({"enum": ["a", 1, None, {"b": [1]}]}, ["a", 1, None, {"b": [1]}], ["b", 2, {}, False]),
    "const": ({"const": {"a": "é"}}, [{"a": "é"}], [{"a": "e"}, {}, None]),
    "properties": (
        {"properties": {"a": {"type": "integer"}}, "type": "object"},
        [{"a": 1}, {}],
        [{"a": "1"}, 1],
    ),
    "required": ({"type": "object", "properties": {"a": {}}, "required": ["a"]}, [{"a": 1}], [{}]),
    "additionalProperties": (
        {"type": "object", "properties": {"a": {}}, "additionalProperties": {"type": "integer"}},
        [{"a": "x", "b": 1}, {}],
        [{"b": "x"}],
    ),
    "patternProperties": (
        {"type": "object", "patternProperties": {"^x": {"type": "integer"}}, "additionalProperties": False},
        [{"x1": 1}, {}],
        [{"x1": "a"}, {"y": 1}],
    ),
    "minProperties": ({"type": "object", "minProperties": 1}, [{"a": 1}], [{}]),
    "maxProperties": ({"type": "object", "maxProperties": 1}, [{}, {"a": 1}], [{"a": 1, "b": 2}]),
    "items": ({"type": "array", "items": {"type": "integer"}}, [[], [1, 2]], [["a"], [1, "a"]]),
    "prefixItems": (
        {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "null"}], "items": False},
        [[1, None], [1], []],
        [[None], [1, None, 2]],
    ),
    "minItems": ({"type": "array", "minItems": 2}, [[1, 2]], [[], [1]]),
    "maxItems": ({"type": "array", "maxItems": 1}, [[], [1]], [[1, 2]]),
    "minLength": ({"type": "string", "minLength": 2}, ["ab", "éé"], ["", "é"]),
    "maxLength": ({"type": "string", "maxLength": 2}, ["", "éé"], ["abc"]),
    "pattern": ({"type": "string", "pattern": "^a+b$"}, ["aab"], ["b", "aabc"]),
    "format": ({"type": "string", "format": "date"}, ["2024-02-29"], ["2024-2-9", "x"]),
    "minimum": ({"type": "number", "minimum": 1.5}, [1.5, 20], [1.4, -3]),
    "maximum": ({"type": "integer", "maximum": 12}, [12, -100], [13, 100]),
    "exclusiveMinimum": ({"type": "integer", "exclusiveMinimum": 1}, [2], [1]),
    "exclusiveMaximum": ({"type": "integer", "exclusiveMaximum": 10}, [9], [10]),
    "multipleOf": ({"type": "integer", "multipleOf": 7}, [0, 14, 77], [8]),
    "anyOf": ({"anyOf": [{"type": "null"}, {"const": "x"}]}, [None, "x"], ["y", 1]),
    "allOf": ({"allOf": [{"type": "integer", "minimum": 3}, {"maximum": 5}]}, [3, 5], [2, 6]),
    "oneOf": ({"oneOf": [{"type": "string", "maxLength": 1}, {"type": "null"}]}, ["x", None], [1, "xy"]),
    "$ref": (
        {"$ref": "#/$defs/n", "$defs": {"n": {"type": "array", "items": {"$ref": "#/$defs/n"}}}},
        [[], [[], [[]]]],
        [[1], {}],
    ),
}
#: keyword -> a schema that needs it.
REFUSED: dict[str, Any] = {
    "not": {"not": {"type": "string"}},
    "if": {"if": {"type": "string"}},
    "contains": {"type": "array", "contains": {"type": "string"}},
    "uniqueItems": {"type": "array", "uniqueItems": True},
    "propertyNames": {"type": "object", "propertyNames": {"pattern": "a"}},
    "dependentRequired": {"type": "object", "dependentRequired": {"a": ["b"]}},
    "dependentSchemas": {"type": "object", "dependentSchemas": {"a": {}}},
    "unevaluatedProperties": {"type": "object", "unevaluatedProperties": False},
    "unevaluatedItems": {"type": "array", "unevaluatedItems": False},
}


def accepts(schema: Any, text: str) -> bool:
    guide = COMPILER.compile(ConstraintSpec("json_schema", schema, "schema")).guide()
    try:
        for byte in text.encode():
            guide.accept(BYTES[bytes([byte])])
    except GuideError:
        return False
    return bool(set(allowed_ids(guide, BPE.n_vocab)) & BPE.eos_ids)


@pytest.mark.parametrize("keyword", GUIDED)
def test_a_keyword_lets_through_what_it_allows_and_stops_the_rest(keyword: str) -> None:
    schema, allowed, stopped = GUIDED[keyword]
    assert [value for value in allowed if not accepts(schema, json.dumps(value, ensure_ascii=False))] == []
    assert [value for value in stopped if accepts(schema, json.dumps(value, ensure_ascii=False))] == []


@pytest.mark.parametrize("keyword", REFUSED)
def test_a_keyword_that_answers_cannot_be_guided_by_is_refused_at_its_place(keyword: str) -> None:
    schema = {"type": "object", "properties": {"part": REFUSED[keyword]}}
    with pytest.raises(RequestError) as caught:
        COMPILER.compile(ConstraintSpec("json_schema", schema, "schema"))
    assert caught.value.param == f"schema.properties.part.{keyword}"


def test_the_page_lists_the_same_keywords() -> None:
    lines = PAGE.read_text().splitlines()
    for heading, keywords in (("Held: ", GUIDED), ("Refused: ", REFUSED)):
        line = next(line for line in lines if line.startswith(heading))
        assert sorted(line.removeprefix(heading).replace("`", "").rstrip(".").split(", ")) == sorted(keywords)
