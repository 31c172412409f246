"""Whether the model should think: five fields of as many dialects, which all set one variable of the chat template.

Thinking is switched by the template; how much of it there is (an effort, a budget) is not, and is refused.
"""

from typing import Any

from server.errors import ApiError
from server.schemas.values import Kind, text_of, wrong

#: What the templates call the switch: Qwen and GLM the first, DeepSeek and Granite the second.
SWITCHES = ("enable_thinking", "thinking")
EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")


def template_variables(thinking: bool | None) -> dict[str, bool]:
    """What the chat template is given for it; None leaves it to the template's own default."""
    return {} if thinking is None else dict.fromkeys(SWITCHES, thinking)


def _unsupported(param: str, works: str) -> ApiError:
    return ApiError(
        400, f"{param} is not supported by this server; {works}", param=param, code="unsupported_value"
    )


def _effort(value: Any, name: str) -> bool:
    """OpenAI's reasoning_effort. Only "none" can be honoured, by any template that has a switch."""
    if text_of(value, name) not in EFFORTS:
        raise wrong(name, f"one of {', '.join(EFFORTS)}")
    if value != "none":
        raise _unsupported(name, 'leave it out, or send "none"')
    return False


def _switch(value: Any, name: str) -> bool:
    """A boolean, or {"type": "enabled"} and {"type": "disabled"} as Anthropic and DeepSeek write it."""
    if isinstance(value, bool):
        return value
    kind = value.get("type") if isinstance(value, dict) else None
    if kind not in ("enabled", "disabled"):
        raise wrong(name, 'true, false, {"type": "enabled"} or {"type": "disabled"}')
    if kind == "enabled" and value.get("budget_tokens"):
        raise _unsupported(f"{name}.budget_tokens", "leave it out")
    return kind == "enabled"


def _reasoning(value: Any, name: str) -> bool | None:
    """OpenRouter's object. `exclude` and `summary` would change what is shown, `max_tokens` how much is thought."""
    if not isinstance(value, dict):
        raise wrong(name, "an object")
    for part in ("max_tokens", "exclude", "summary", "generate_summary"):
        if value.get(part):
            raise _unsupported(f"{name}.{part}", "leave it out")
    if value.get("effort"):
        return _effort(value["effort"], f"{name}.effort")
    enabled = value.get("enabled")
    if not isinstance(enabled, bool | None):
        raise wrong(f"{name}.enabled", "true or false")
    return enabled


def _template_kwargs(value: Any, name: str) -> bool | None:
    """Of all variables that templates have, only the switch."""
    if not isinstance(value, dict):
        raise wrong(name, "an object")
    given = {key: entry for key, entry in value.items() if entry is not None}
    if not set(given) <= set(SWITCHES):
        raise _unsupported(name, f"of a template's variables only {' and '.join(SWITCHES)} can be set")
    for key, entry in given.items():
        if not isinstance(entry, bool):
            raise wrong(f"{name}.{key}", "true or false")
    return next((given[key] for key in SWITCHES if key in given), None)


_TYPE = {"type": "object", "properties": {"type": {"enum": ["enabled", "disabled"]}}}
SWITCH = Kind({"anyOf": [{"type": "boolean"}, _TYPE]}, _switch)
EFFORT = Kind({"type": "string", "enum": list(EFFORTS)}, _effort)
REASONING = Kind(
    {"type": "object", "properties": {"effort": {"enum": list(EFFORTS)}, "enabled": {"type": "boolean"}}},
    _reasoning,
)
TEMPLATE_KWARGS = Kind(
    {"type": "object", "properties": {name: {"type": "boolean"} for name in SWITCHES}}, _template_kwargs
)
