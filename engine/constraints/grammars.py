"""Every kind of form as one Lark grammar of llguidance's dialect, checked for its size on the way.

no_forcing: where a form leaves one continuation only, the model still chooses its tokens. The other way the library
would encode that text itself, in the step, by an encoder that it would have to be given.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

from llguidance import regex_to_lark

from engine.constraints.gbnf import lark_of_gbnf
from engine.constraints.limits import MAX_CHARACTERS, MAX_ENUM
from engine.constraints.schema_checks import check_schema
from engine.constraints.spec import ConstraintKind, ConstraintSpec, invalid
from engine.constraints.structural_tags import lark_of_tags
from engine.constraints.text_checks import check_grammar, check_pattern

_OPTIONS = '\n%llguidance {"no_forcing": true}\n'
# One space, or a new line with an indentation: what models write between JSON tokens, and nothing that a model which
# has lost its way can go on with for ever.
JSON_OPTIONS = {
    "whitespace_flexible": True,
    "whitespace_pattern": r"(\x20|\x0A\x20{0,20})",
    "lenient": False,
    "coerce_one_of": False,
}


def grammar_of(spec: ConstraintSpec) -> str:
    """Raises RequestError naming the part that is wrong or too large."""
    return _WRITERS[spec.kind](spec.value, spec.param) + _OPTIONS


def rule_of(spec: ConstraintSpec) -> str | None:
    """The right side of a rule for a form that has but one; None for a grammar. Raises as `grammar_of`."""
    if spec.kind not in ("json_schema", "json_object", "regex", "choice"):
        return None
    return _WRITERS[spec.kind](spec.value, spec.param).removeprefix("start: ")


def json_rule(schema: Any) -> str:
    """The right side of a rule that a JSON text matches."""
    body = {} if schema is True else schema
    return "%json " + json.dumps({**body, "x-guidance": JSON_OPTIONS}, ensure_ascii=False)


def _of_schema(schema: Any, param: str) -> str:
    check_schema(schema, param)
    return f"start: {json_rule(schema)}"


def _of_object(_: Any, __: str) -> str:
    return f"start: {json_rule({'type': 'object'})}"


def _of_pattern(pattern: Any, param: str) -> str:
    text = _text(pattern, param)
    check_pattern(text, param)
    return f"start: /{regex_to_lark(text, 'd')}/"  # d: a digit is one of 0 to 9


def _of_choice(texts: Any, param: str) -> str:
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise invalid(param, "must be a list of texts, at least one")
    if len(texts) > MAX_ENUM or sum(map(len, texts)) > MAX_CHARACTERS:
        raise invalid(
            param, f"has more than {MAX_ENUM} texts, or more than {MAX_CHARACTERS} characters in them"
        )
    return "start: " + " | ".join(lark_text(text) for text in dict.fromkeys(texts))


def _of_lark(grammar: Any, param: str) -> str:
    text = _text(grammar, param)
    check_grammar(text, param)
    return text


def _of_gbnf(grammar: Any, param: str) -> str:
    text = _text(grammar, param)
    check_grammar(text, param)
    return lark_of_gbnf(text, param)


def _of_tags(tags: Any, param: str) -> str:
    return lark_of_tags(tags, param, json_rule)


def lark_text(text: str) -> str:
    """A literal of Lark, which has JSON's escapes."""
    return json.dumps(text, ensure_ascii=False)


def _text(value: Any, param: str) -> str:
    if not isinstance(value, str) or not value:
        raise invalid(param, "must be a text that is not empty")
    return value


_WRITERS: Mapping[ConstraintKind, Callable[[Any, str], str]] = {
    "json_schema": _of_schema,
    "json_object": _of_object,
    "regex": _of_pattern,
    "choice": _of_choice,
    "lark": _of_lark,
    "gbnf": _of_gbnf,
    "structural_tag": _of_tags,
}
