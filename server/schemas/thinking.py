"""Whether a model should think, how long, and how its thoughts are told: the fields of many dialects."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from engine.errors import RequestError
from engine.text.messages import check_value
from server.errors import ApiError
from server.schemas.fields import Values
from server.schemas.values import Kind, integer_of, text_of, wrong

#: What the templates call the switch: Qwen and GLM the first, DeepSeek and Granite the second.
SWITCHES = ("enable_thinking", "thinking")
EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
#: Names of a chat template that a request may not set: they are the conversation's and the server's.
RESERVED = frozenset(
    {"messages", "tools", "functions", "documents", "add_generation_prompt", "continue_final_message"}
    | {"bos_token", "eos_token", "unk_token", "pad_token", "raise_exception", "strftime_now", "datetime"}
    | {"chat_template", "tojson", "range", "namespace", "loop", "self", "caller", "varargs", "kwargs"}
)
MAX_VARIABLES = 64
MAX_VARIABLES_BYTES = 1 << 16  # of their JSON
MAX_BUDGET = (1 << 31) - 1
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
Told = Literal["apart", "inline", "hidden"]


@dataclass(frozen=True)
class ThinkingUse:
    """variables: of the chat template. budget: tokens of thought, None: any number. told: thoughts apart from the
    content, as the model writes them in it, or not at all."""

    variables: Mapping[str, Any] = field(default_factory=dict)
    budget: int | None = None
    told: Told = "apart"


def thinking_use(values: Values) -> ThinkingUse:
    """What all fields of the key say; of two that differ the one that comes first in the table counts."""
    given: list[ThinkingUse] = list(reversed(values.all("thinking")))
    variables: dict[str, Any] = {}
    for use in given:
        variables |= use.variables
    budgets = [use.budget for use in given if use.budget is not None]
    told = [use.told for use in given if use.told != "apart"]
    return ThinkingUse(variables, budgets[-1] if budgets else None, told[-1] if told else "apart")


def switched(on: bool) -> ThinkingUse:
    return ThinkingUse(dict.fromkeys(SWITCHES, on))


def _enabled(value: Any, name: str) -> ThinkingUse:
    if not isinstance(value, bool):
        raise wrong(name, "true or false")
    return switched(value)


def _effort(value: Any, name: str) -> ThinkingUse:
    """OpenAI's reasoning_effort. A template that knows no efforts thinks or does not."""
    effort = text_of(value, name)
    if effort not in EFFORTS:
        raise wrong(name, f"one of {', '.join(EFFORTS)}")
    if effort == "none":
        return switched(False)
    return ThinkingUse({**dict.fromkeys(SWITCHES, True), "reasoning_effort": effort})


def _switch(value: Any, name: str) -> ThinkingUse:
    """A boolean; an effort, as Ollama's clients send it; or {"type": "enabled", "budget_tokens": n} and
    {"type": "disabled"} as Anthropic and DeepSeek write it."""
    if isinstance(value, bool):
        return switched(value)
    if isinstance(value, str):
        return _effort(value, name)
    kind = value.get("type") if isinstance(value, dict) else None
    if kind not in ("enabled", "disabled", "adaptive"):
        raise wrong(name, 'true, false, {"type": "enabled"} or {"type": "disabled"}')
    if kind == "disabled":
        return switched(False)
    budget = value.get("budget_tokens")
    return ThinkingUse(switched(True).variables, _limit(budget, f"{name}.budget_tokens"))


def _reasoning(value: Any, name: str) -> ThinkingUse:
    """OpenRouter's and OpenAI's object."""
    if not isinstance(value, dict):
        raise wrong(name, "an object")
    enabled, exclude = value.get("enabled"), value.get("exclude")
    for part, given in (("enabled", enabled), ("exclude", exclude)):
        if not isinstance(given, bool | None):
            raise wrong(f"{name}.{part}", "true or false")
    use = ThinkingUse()
    if value.get("effort"):
        use = _effort(value["effort"], f"{name}.effort")
    elif enabled is not None:
        use = switched(enabled)
    budget = _limit(value.get("max_tokens"), f"{name}.max_tokens")
    return ThinkingUse(use.variables, budget, "hidden" if exclude else "apart")


def _limit(value: Any, name: str) -> int | None:
    """-1 and null are no limit."""
    if value is None:
        return None
    budget = integer_of(value, name)
    if budget < -1:
        raise wrong(name, "an integer, -1 or more")
    return None if budget == -1 else min(budget, MAX_BUDGET)


def _budget(value: Any, name: str) -> ThinkingUse:
    return ThinkingUse(budget=_limit(value, name))


def template_kwargs(value: Any, name: str) -> ThinkingUse:
    """Variables of the chat template, by their own names."""
    if not isinstance(value, dict):
        raise wrong(name, "an object")
    given = {key: entry for key, entry in value.items() if entry is not None}
    if len(given) > MAX_VARIABLES:
        raise ApiError(400, f"{name} has {len(given)} entries; at most {MAX_VARIABLES} are taken", param=name)
    for key in given:
        if not _NAME.fullmatch(key):
            raise ApiError(400, f"{name} has a name that no template can have", param=name)
        if key in RESERVED:
            raise ApiError(
                400,
                f"{name}.{key} is the server's to set; leave it out",
                param=f"{name}.{key}",
                code="unsupported_value",
            )
    try:
        check_value(given, name)
    except RequestError as error:
        raise ApiError(400, str(error), param=name) from None
    if len(json.dumps(given)) > MAX_VARIABLES_BYTES:
        raise ApiError(400, f"{name} is more than {MAX_VARIABLES_BYTES} bytes of JSON", param=name)
    switch = next((given[name] for name in SWITCHES if isinstance(given.get(name), bool)), None)
    return ThinkingUse(given if switch is None else {**dict.fromkeys(SWITCHES, switch), **given})


def _told_if(told_if_false: Told) -> Kind:
    def read(value: Any, name: str) -> ThinkingUse:
        if not isinstance(value, bool):
            raise wrong(name, "true or false")
        return ThinkingUse(told="apart" if value else told_if_false)

    return Kind({"type": "boolean"}, read)


def _format(value: Any, name: str) -> ThinkingUse:
    if value not in ("none", "deepseek", "auto"):
        raise wrong(name, "none, deepseek or auto")
    return ThinkingUse(told="inline" if value == "none" else "apart")


_TYPE = {
    "type": "object",
    "properties": {"type": {"enum": ["enabled", "disabled"]}, "budget_tokens": {"type": "integer"}},
}
ENABLED = Kind({"type": "boolean"}, _enabled)
SWITCH = Kind({"anyOf": [{"type": "boolean"}, {"type": "string", "enum": list(EFFORTS)}, _TYPE]}, _switch)
EFFORT = Kind({"type": "string", "enum": list(EFFORTS)}, _effort)
REASONING = Kind(
    {
        "type": "object",
        "properties": {
            "effort": {"enum": list(EFFORTS)},
            "enabled": {"type": "boolean"},
            "exclude": {"type": "boolean"},
            "max_tokens": {"type": "integer"},
        },
    },
    _reasoning,
)
TEMPLATE_KWARGS = Kind({"type": "object", "maxProperties": MAX_VARIABLES}, template_kwargs)
BUDGET = Kind({"type": "integer", "minimum": -1}, _budget)
HIDDEN_UNLESS = _told_if("hidden")
INLINE_UNLESS = _told_if("inline")
FORMAT = Kind({"type": "string", "enum": ["none", "deepseek", "auto"]}, _format)
