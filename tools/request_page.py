"""The page that lists every request field, from the table in server/schemas."""

import json

from server.schemas.field_table import FIELDS
from server.schemas.fields import BOTH, RequestField, Use
from server.schemas.operations import OPERATIONS
from tools.reference_tables import markdown_table, page


def requests_page() -> str:
    """What `/v1/chat/completions` and `/v1/completions` do with each field of a request."""
    return page(
        "Request fields",
        "What `/v1/chat/completions` and `/v1/completions` do with each field, of OpenAI's SDK and of other servers "
        'whose clients send theirs. `null`, `""`, `[]`, `{}` and `false` ask for nothing and are taken everywhere, '
        "except `false` where a field is on without being sent. A whole number may be written 12 or 12.0. A field on "
        "none of these lists is dropped, counted in `espalier_unknown_request_fields_total`, named once in the log.",
        f"## {Use.HONOURED.value}",
        "Of several names in one row the first that a request sends counts; stop strings add up.",
        markdown_table(("field", "meaning"), map(_row, _of(Use.HONOURED))),
        f"## {Use.REFUSED.value}",
        "400 with `code` `unsupported_value` and the field as `param`, unless the value asks for nothing.",
        markdown_table(
            ("field", "what it would ask for", "asks for nothing, too"),
            ((*_row(field), _nothing(field)) for field in _of(Use.REFUSED)),
        ),
        f"## {Use.ACCEPTED.value}",
        "Any value is taken, and the answer is the same without it.",
        markdown_table(("field", "why"), map(_row, _of(Use.ACCEPTED))),
        "## Other routes",
        "`/apply-template`, `/v1/chat/completions/render` and `/v1/chat/completions/input_tokens` take the body of "
        "`/v1/chat/completions` and tell what it would be answered from.",
        *(part for path in OPERATIONS for part in _own_fields(path)),
    )


def _own_fields(path: str) -> list[str]:
    """The table of a route that has fields of its own."""
    body = OPERATIONS[path].body
    if body is None or all(field in FIELDS.fields for field in body.fields.values()):
        return []
    once = {field.names: field.about for field in body.fields.values()}
    rows = [(", ".join(f"`{name}`" for name in names), about) for names, about in once.items()]
    return [f"### {path}", markdown_table(("field", "meaning"), rows)]


def _of(use: Use) -> list[RequestField]:
    return [field for field in FIELDS.fields if field.use is use]


def _row(field: RequestField) -> tuple[str, str]:
    names = ", ".join(f"`{name}`" for name in field.names)
    where = "" if field.routes == BOTH else f" ({', '.join(sorted(field.routes))})"
    return names + where, field.about


def _nothing(field: RequestField) -> str:
    return ", ".join(f"`{json.dumps(value)}`" for value in field.nothing)
