"""Tools and how they are chosen, in OpenAI's fields of both generations."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from engine.answers.tool import Tool
from engine.errors import RequestError
from engine.text.messages import check_value
from server.errors import ApiError
from server.schemas.fields import Values
from server.schemas.values import NAME_OF_TOOL, Kind, text_of, wrong

MAX_TOOLS = 128
MAX_TOOLS_BYTES = 1 << 20  # of their JSON
Choice = Literal["auto", "required", "none"]


@dataclass(frozen=True)
class ToolUse:
    """tools: those that may be called. told: all of them, as chat templates read them.

    places: where in the request each of `tools` is. named: the one that must be called. is_legacy: the client knows
    functions, not tools.
    """

    tools: tuple[Tool, ...] = ()
    told: tuple[Mapping[str, Any], ...] = ()
    places: tuple[str, ...] = ()
    choice: Choice = "auto"
    named: str | None = None
    parallel: bool = True
    is_legacy: bool = False

    @property
    def is_forced(self) -> bool:
        return self.choice == "required"


NO_TOOLS = ToolUse(choice="none")


def tool_use(values: Values) -> ToolUse:
    """Raises ApiError 400 naming the part that is wrong."""
    tools, functions = values.first("tools"), values.first("functions")
    is_legacy = tools is None and functions is not None
    param, of_choice = ("functions", "function_call") if is_legacy else ("tools", "tool_choice")
    choice = _Choice.of(values.first(of_choice), of_choice)
    if choice.mode == "none":
        return NO_TOOLS
    if is_legacy:
        given = [_tool(function, f"{param}.[{i}]") for i, function in enumerate(functions)]
    else:
        given = [_tool(*_function(tool, f"{param}.[{i}]")) for i, tool in enumerate(tools or ())]
    if not given:
        if choice.mode == "required":
            raise ApiError(
                400, f"{choice.param} asks for a call, and there are no {param}", param=choice.param
            )
        return NO_TOOLS
    _check_names(given, param)
    callable_ones = _callable(given, choice)
    inner = "" if is_legacy else ".function"
    return ToolUse(
        tools=callable_ones,
        places=tuple(f"{param}.[{given.index(tool)}]{inner}" for tool in callable_ones),
        told=tuple({"type": "function", "function": _told(tool)} for tool in given),
        choice=choice.mode,
        named=choice.named,
        parallel=values.first("parallel_tool_calls", True) and not is_legacy,
        is_legacy=is_legacy,
    )


@dataclass(frozen=True)
class _Choice:
    mode: Choice
    param: str
    named: str | None = None
    allowed: frozenset[str] | None = None  # None: all

    @classmethod
    def of(cls, value: Any, param: str) -> "_Choice":
        if value is None:
            return cls("auto", param)
        if isinstance(value, str):
            return cls(_mode(value, param), param)
        if isinstance(value, dict) and value.get("type") == "allowed_tools":
            return _allowed(value, param)
        if isinstance(value, dict) and value.get("type", "function") == "function":
            name = _name_in(value)
            if name is not None:
                return cls("required", param, name, frozenset({name}))
        raise wrong(
            param,
            'auto, none, required, or an object such as {"type": "function", "function": {"name": ...}}',
        )


def _mode(value: str, param: str) -> Choice:
    if value in ("auto", "none", "required"):
        return value  # type: ignore[return-value]
    if value == "any":  # Mistral's
        return "required"
    raise wrong(param, "auto, none, required, or an object that names a tool")


def _allowed(value: Mapping[str, Any], param: str) -> _Choice:
    """OpenAI's {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [...]}}."""
    inner = value.get("allowed_tools", value)
    tools = inner.get("tools") if isinstance(inner, dict) else None
    names = (
        [_name_in(tool) if isinstance(tool, dict) else None for tool in tools]
        if isinstance(tools, list)
        else []
    )
    if not 1 <= len(names) <= MAX_TOOLS or None in names:
        raise wrong(
            f"{param}.allowed_tools", f"an object with a mode and 1 to {MAX_TOOLS} tools, each with a name"
        )
    mode = inner.get("mode", "auto")
    if mode not in ("auto", "required"):
        raise wrong(f"{param}.allowed_tools.mode", "auto or required")
    return _Choice(mode, param, None, frozenset(name for name in names if name is not None))


def _name_in(value: Mapping[str, Any]) -> str | None:
    """{"function": {"name"}} or {"name"}."""
    function = value.get("function", value)
    name = function.get("name") if isinstance(function, dict) else None
    return name if isinstance(name, str) else None


def _callable(tools: Sequence[Tool], choice: _Choice) -> tuple[Tool, ...]:
    if choice.allowed is None:
        return tuple(tools)
    missing = choice.allowed - {tool.name for tool in tools}
    if missing:
        raise ApiError(
            400, f"{choice.param} names a tool that is not among the request's", param=choice.param
        )
    return tuple(tool for tool in tools if tool.name in choice.allowed)


def _check_names(tools: Sequence[Tool], param: str) -> None:
    names = [tool.name for tool in tools]
    for i, name in enumerate(names):
        if name in names[:i]:
            raise ApiError(400, f"{param}.[{i}] has the name of another one", param=f"{param}.[{i}]")


def _function(tool: Any, where: str) -> tuple[Any, str]:
    """The function of a tool and its place."""
    if not isinstance(tool, dict):
        raise wrong(where, "an object")
    if tool.get("type", "function") != "function":
        raise ApiError(
            400,
            f"{where}.type is not supported by this server; tools are of type function",
            param=f"{where}.type",
            code="unsupported_value",
        )
    return (tool["function"], f"{where}.function") if "function" in tool else (tool, where)


def _tool(function: Any, where: str) -> Tool:
    if not isinstance(function, dict):
        raise wrong(where, "an object with a name")
    name = function.get("name")
    if not isinstance(name, str) or not NAME_OF_TOOL.fullmatch(name):
        raise wrong(f"{where}.name", "1 to 128 of the characters A-Z a-z 0-9 _ . : / -")
    parameters = function.get("parameters")
    if parameters is None:
        parameters = {"type": "object", "properties": {}, "additionalProperties": False}
    if not isinstance(parameters, dict) or parameters.get("type", "object") != "object":
        raise wrong(f"{where}.parameters", "a JSON schema of an object")
    strict = function.get("strict")
    if not isinstance(strict, bool | None):
        raise wrong(f"{where}.strict", "true or false")
    description = function.get("description")
    text = "" if description is None else text_of(description, f"{where}.description")
    return Tool(name, parameters, text, bool(strict))


def _told(tool: Tool) -> dict[str, Any]:
    """Without `strict`, which says nothing to a model."""
    told: dict[str, Any] = {"name": tool.name}
    if tool.description:
        told["description"] = tool.description
    return told | {"parameters": dict(tool.parameters)}


def _tools(value: Any, name: str) -> list[Any]:
    """A list of bounded size. What is in it counts only if it may be called: `tool_use` reads it."""
    if not isinstance(value, list):
        raise wrong(name, "a list")
    if len(value) > MAX_TOOLS:
        raise ApiError(400, f"{name} has {len(value)} entries; at most {MAX_TOOLS} are taken", param=name)
    try:
        check_value(value, name)
    except RequestError as error:
        raise ApiError(400, str(error), param=name) from None
    if len(json.dumps(value)) > MAX_TOOLS_BYTES:
        raise ApiError(400, f"{name} are more than {MAX_TOOLS_BYTES} bytes of JSON", param=name)
    return value


def _tool_choice(value: Any, name: str) -> Any:
    if not isinstance(value, str | dict):
        raise wrong(name, "a string or an object")
    return value


_FUNCTION = {
    "type": "object",
    "required": ["name"],
    "properties": {
        "name": {"type": "string", "pattern": f"^{NAME_OF_TOOL.pattern}$"},
        "description": {"type": ["string", "null"]},
        "parameters": {"type": ["object", "null"], "description": "JSON Schema of the arguments."},
        "strict": {"type": ["boolean", "null"], "description": "Calls match the schema, by a grammar."},
    },
}
_TOOL = {"type": "object", "properties": {"type": {"const": "function"}, "function": _FUNCTION}}
TOOLS = Kind({"type": "array", "maxItems": MAX_TOOLS, "items": _TOOL}, _tools)
FUNCTIONS = Kind({"type": "array", "maxItems": MAX_TOOLS, "items": _FUNCTION}, _tools)
_MODES = {"type": "string", "enum": ["auto", "none", "required"]}
TOOL_CHOICE = Kind({"anyOf": [_MODES, {"type": "object"}]}, _tool_choice)
FUNCTION_CALL = Kind(
    {"anyOf": [{"type": "string", "enum": ["auto", "none"]}, {"type": "object"}]}, _tool_choice
)
