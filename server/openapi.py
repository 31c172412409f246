"""openapi.json: FastAPI's list of routes, with the bodies that FastAPI does not see.

The routes parse their bodies themselves (body.py), so the request schemas come from the table of fields, the one that
reads them.
"""

import re
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from server.schemas.answers import ANSWERS
from server.schemas.fields import RequestField, Use
from server.schemas.json_schema import ref
from server.schemas.openai_fields import OPENAI_FIELDS
from server.schemas.operations import OPERATIONS, Body, Operation
from server.schemas.route_answers import ROUTE_ANSWERS

_MISTAKES = {
    "400": "A field is wrong or not supported; `param` names it.",
    "401": "The key is missing or wrong.",
    "404": "There is no such model.",
    "413": "The body is too large.",
    "500": "The server failed; its log has the request's id.",
    "503": "Overloaded or shutting down; `Retry-After` says when to come back.",
}


def describe(app: FastAPI) -> None:
    """Make `app.openapi` say what each route takes and answers."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]


def _document(app: FastAPI) -> dict[str, Any]:
    document = get_openapi(title=app.title, version=app.version, description=_ABOUT, routes=app.routes)
    bodies = [operation.body for operation in OPERATIONS.values() if operation.body is not None]
    schemas = {body.name: _request_schema(body) for body in bodies}
    components = document.setdefault("components", {})
    components["schemas"] = {**ANSWERS, **ROUTE_ANSWERS, **schemas}
    components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    document["security"] = [{}, {"key": []}]
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            _complete(operation, path, method)
    return document


_ABOUT = (
    "OpenAI's API for one model. Every answer that is no success has OpenAI's error object. "
    "Fields of other servers that are not listed here: docs/requests.md."
)


def _complete(operation: dict[str, Any], path: str, method: str) -> None:
    """Add a body to an operation that has one, its answer, and errors to every one."""
    told = OPERATIONS.get(path)
    operation["operationId"] = _operation_id(path, method)
    responses = operation.setdefault("responses", {})
    responses.pop("422", None)  # FastAPI's own refusals, which no route of ours gives
    if told is not None and method != "head":
        responses["200"] = _success(told)
    if told is not None and told.body is not None:
        media = {"schema": ref(told.body.name), "example": told.body.example}
        operation["requestBody"] = {"required": True, "content": {"application/json": media}}
        for status, about in _MISTAKES.items():
            responses[status] = _error(about)
    responses["default"] = _error("Anything else.")


def _operation_id(path: str, method: str) -> str:
    """A name for the functions of generated clients."""
    return "_".join([method, *re.findall(r"\w+", path)])


def _success(told: Operation) -> dict[str, Any]:
    content = {"application/json": {"schema": ref(told.answer)}}
    if told.event is None:
        return {"description": "The answer.", "content": content}
    return {
        "description": "The answer; with `stream` an event for each piece of it, then `data: [DONE]`.",
        "content": {**content, "text/event-stream": {"schema": ref(told.event)}},
    }


def _error(about: str) -> dict[str, Any]:
    return {"description": about, "content": {"application/json": {"schema": ref("Error")}}}


def _request_schema(body: Body) -> dict[str, Any]:
    """The honoured fields, and OpenAI's others with a word on what becomes of them."""
    shown = {name: f for name, f in body.fields.items() if f.use is Use.HONOURED or f in OPENAI_FIELDS}
    return {
        "type": "object",
        "required": [name for name, field in shown.items() if field.required],
        "properties": {name: _property(name, field) for name, field in shown.items()},
        "additionalProperties": True,
    }


def _property(name: str, field: RequestField) -> dict[str, Any]:
    if field.use is Use.REFUSED:
        return {"description": f"Not supported ({field.about}); null asks for nothing.", "deprecated": True}
    if field.use is Use.ACCEPTED:
        return {"description": f"Of no meaning here: {field.about}"}
    about = field.about
    if name != field.names[0]:
        about = f"Another name of `{field.names[0]}`."
    if field.required:
        return {**field.kind.schema, "description": about}
    return {"anyOf": [field.kind.schema, {"type": "null"}], "description": about}
