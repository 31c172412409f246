"""What a client asks for: a form, as it was written, and the field that it came in."""

from typing import Any, Literal, NamedTuple

from engine.errors import RequestError

ConstraintKind = Literal["json_schema", "json_object", "regex", "choice", "lark", "gbnf", "structural_tag"]


class ConstraintSpec(NamedTuple):
    """One form. value: a JSON schema (object or boolean), None for json_object, the text of a pattern or grammar, a
    list of texts, an object of tags. param: the request's field, for errors: `response_format.json_schema.schema`.
    """

    kind: ConstraintKind
    value: Any
    param: str


def invalid(param: str, message: str) -> RequestError:
    """One line: what is wrong and what would work. It never repeats the client's text."""
    return RequestError(f"{param} {message}", param=param, code="invalid_constraint")
