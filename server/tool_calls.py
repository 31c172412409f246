"""How a chat's tools come into its prompt, and what obliges the model to call them rightly."""

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request

from engine.answers.generic_tools import with_tools_told
from engine.answers.grammars import WRITINGS, call_grammar
from engine.constraints import Constraint, ConstraintSpec
from engine.constraints.grammars import rule_of
from engine.constraints.schema_checks import check_schema
from engine.errors import RequestError
from server.errors import ApiError
from server.schemas.tools import ToolUse
from server.service import Service


def told_messages(
    service: Service, messages: list[dict[str, Any]], use: ToolUse
) -> tuple[list[dict[str, Any]], Mapping[str, Any]]:
    """The messages and the template's variables for the tools. A template that knows none is told them in words."""
    if not use.told:
        return messages, {}
    if service.chat_template.knows_tools:
        return messages, {"tools": [dict(tool) for tool in use.told]}
    return with_tools_told(messages, use.told), {}


async def compiled_calls(
    service: Service, request: Request, use: ToolUse, form: ConstraintSpec | None
) -> Constraint | None:
    """What restricts the answer's content and calls. form: of an answer that calls nothing."""
    spec = _call_spec(service, use, form)
    if spec is None:
        return await service.compiled(request, form)
    await service.text_pool.run_form(lambda _: _check_parameters(use))
    try:
        return await service.compiled(request, spec)
    except RequestError as error:
        await _find_culprit(service, request, use, error)
        raise


def _check_parameters(use: ToolUse) -> None:
    for tool, place in zip(use.tools, use.places, strict=True):
        check_schema(dict(tool.parameters), f"{place}.parameters")


async def _find_culprit(service: Service, request: Request, use: ToolUse, error: RequestError) -> None:
    """Raises the error of the first tool whose schema alone cannot be compiled; it names the part."""
    if error.code != "invalid_constraint":
        return
    for tool, place in zip(use.tools, use.places, strict=True):
        await service.compiled(
            request, ConstraintSpec("json_schema", dict(tool.parameters), f"{place}.parameters")
        )


def _call_spec(service: Service, use: ToolUse, form: ConstraintSpec | None) -> ConstraintSpec | None:
    """None where calls are the model's own affair."""
    calls = service.answer_format.calls
    is_bound = use.is_forced or any(tool.strict for tool in use.tools) or not use.parallel
    if not use.tools or not (is_bound or form is not None):
        return None
    if calls is None:
        text = "this server was started with --tool-parser none, so calls cannot be obliged"
        raise ApiError(400, text, param="tool_choice", code="unsupported_value")
    known = service.tokenizer.control
    grammar = call_grammar(
        WRITINGS[calls.name],
        use.tools,
        lambda text: known.ids.get(known.spelled(text)),
        required=use.is_forced,
        parallel=use.parallel,
        content=None if form is None or use.is_forced else _content(form),
    )
    return ConstraintSpec("lark", grammar, "functions" if use.is_legacy else "tools")


def _content(form: ConstraintSpec) -> str:
    rule = rule_of(form)
    if rule is None:
        raise ApiError(
            400,
            f"{form.param} does not go with tools; a JSON schema, a pattern or a choice does",
            param=form.param,
            code="unsupported_value",
        )
    return rule
