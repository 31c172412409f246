"""Grammars that oblige a model to write calls which its format's parser reads, with arguments of the tools' schemas.

In llguidance's dialect of Lark. Markers that are control tokens of the vocabulary are those tokens, others texts.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from engine.answers.tool import Tool
from engine.answers.values import types_of
from engine.constraints.grammars import json_rule, lark_text

#: The id of the control token that is spelled so; None where there is none.
ControlId = Callable[[str], int | None]
ANY_OBJECT: Mapping[str, Any] = {"type": "object"}


class Writing(NamedTuple):
    """How a format writes calls. The texts are right sides of rules, "" for nothing.

    trigger: the marker that no content has: it begins the calls, and each of them where `is_each`. close: after the
    last one. call: of a tool, what follows the trigger, or between two others; it may add rules of its own.
    """

    trigger: str
    call: "Callable[[Tool, Rules], str]"
    after: str = ""  # the trigger, once
    opens: str = ""  # begins a call where the trigger begins all of them
    between: str = ""
    close: str = ""
    is_each: bool = True


class Rules:
    """Rules that others refer to by their names."""

    def __init__(self, control_id: ControlId) -> None:
        self.lines: list[str] = []
        self._control_id = control_id

    def named(self, right: str, *, terminal: bool = False, lazy: bool = False) -> str:
        """The name of a new rule."""
        name = f"{'T' if terminal else 'r'}{len(self.lines)}"
        self.lines.append(f"{name}{'[lazy]' if lazy else ''}: {right}")
        return name

    def marker(self, text: str) -> str:
        token_id = self._control_id(text)
        return lark_text(text) if token_id is None else f"<[{token_id}]>"

    def is_control(self, text: str) -> bool:
        return self._control_id(text) is not None


def call_grammar(
    writing: Writing,
    tools: Sequence[Tool],
    control_id: ControlId,
    *,
    required: bool,
    parallel: bool,
    content: str | None = None,
) -> str:
    """required: nothing but calls, at least one. Otherwise text that does not call, and calls that are right: the
    arguments of tools that are not strict may be any object then. parallel: there may be several.
    content: the right side of a rule that an answer without calls must match; None: any text.
    """
    rules = Rules(control_id)
    free = tools if required else [t if t.strict else t._replace(parameters=ANY_OBJECT) for t in tools]
    calls = " | ".join(rules.named(writing.call(tool, rules)) for tool in free)
    one = rules.named(f"{_marked(rules, writing.opens)} ({calls})")
    if required or content is not None:
        start = _calls_alone(writing, rules, one, parallel)
        if content is not None and not required:
            start = f"{rules.named(start)} | {rules.named(content)}"
    else:
        start = _calls_in_text(writing, rules, one, parallel)
    return "\n".join([f"start: {start}", *rules.lines])


def _marked(rules: Rules, text: str) -> str:
    return rules.marker(text) if text else ""


def _calls_alone(writing: Writing, rules: Rules, one: str, parallel: bool) -> str:
    trigger = _marked(rules, writing.trigger)
    between = lark_text(writing.between) if writing.between else ""
    further = f"({between} {trigger if writing.is_each else ''} {one})*" if parallel else ""
    return f"{trigger} {_marked(rules, writing.after)} {one} {further} {_marked(rules, writing.close)}"


def _calls_in_text(writing: Writing, rules: Rules, one: str, parallel: bool) -> str:
    """Free text in which the trigger obliges to what follows it."""
    if not writing.trigger:  # calls are known by their first character
        other = rules.named(r"/([^{ \n](.|\n)*)?/", terminal=True)
        return f"{rules.named(_calls_alone(writing, rules, one, parallel))} | {other}"
    text = rules.named(r"/(.|\n)*/", terminal=True)
    if rules.is_control(writing.trigger):
        begin = f"{text} {rules.marker(writing.trigger)}"
    else:
        begin = rules.named(f"{text} {lark_text(writing.trigger)}", lazy=True)
    between = lark_text(writing.between) if writing.between else ""
    several = f"({between} {one})*" if parallel and not writing.is_each else ""
    calls = f"{begin} {_marked(rules, writing.after)} {one} {several} {_marked(rules, writing.close)}"
    last = rules.named(text)
    return f"({calls})* {last}" if parallel else f"{last} | {calls}"


# The formats.


def _object(tool: Tool) -> str:
    """Of its arguments. Names that the schema does not know are no help to anybody, even where it allows them."""
    schema = dict(tool.parameters)
    if "properties" in schema and not schema.keys() & _OPEN:
        schema["additionalProperties"] = False
    return json_rule(schema)


_OPEN = {
    "additionalProperties",
    "patternProperties",
    "unevaluatedProperties",
    "allOf",
    "anyOf",
    "oneOf",
    "$ref",
}


def _hermes(tool: Tool, rules: Rules) -> str:
    head = lark_text(f'\n{{"name": {json.dumps(tool.name)}, "arguments": ')
    return f"{head} {rules.named(_object(tool))} {lark_text('}' + chr(10))} {rules.marker('</tool_call>')}"


def _llama3(tool: Tool, rules: Rules) -> str:
    head = lark_text(f'{{"name": {json.dumps(tool.name)}, "parameters": ')
    return f"{head} {rules.named(_object(tool))} {lark_text('}')}"


def _mistral(tool: Tool, rules: Rules) -> str:
    head = lark_text(f'{{"name": {json.dumps(tool.name)}, "arguments": ')
    return f"{head} {rules.named(_object(tool))} {lark_text('}')}"


def _mistral_v11(tool: Tool, rules: Rules) -> str:
    return f"{lark_text(tool.name)} {rules.marker('[ARGS]')} {rules.named(_object(tool))}"


def _deepseek(tool: Tool, rules: Rules) -> str:
    parts = [
        lark_text("function"),
        rules.marker("<｜tool▁sep｜>"),
        lark_text(f"{tool.name}\n```json\n"),
        rules.named(_object(tool)),
        lark_text("\n```"),
        rules.marker("<｜tool▁call▁end｜>"),
    ]
    return " ".join(parts)


def _deepseek_v31(tool: Tool, rules: Rules) -> str:
    sep, end = rules.marker("<｜tool▁sep｜>"), rules.marker("<｜tool▁call▁end｜>")
    return f"{lark_text(tool.name)} {sep} {rules.named(_object(tool))} {end}"


def _kimi(tool: Tool, rules: Rules) -> str:
    parts = [
        lark_text(f"functions.{tool.name}:"),
        rules.named("/[0-9]{1,3}/", terminal=True),
        rules.marker("<|tool_call_argument_begin|>"),
        rules.named(_object(tool)),
        rules.marker("<|tool_call_end|>"),
    ]
    return " ".join(parts)


def _qwen3_coder(tool: Tool, rules: Rules) -> str:
    parts = [lark_text(f"\n<function={tool.name}>\n")]
    for key, value, required in _parameters(tool):
        head = lark_text(f"<parameter={key}>\n")
        pair = f"{head} {_value(value, rules, chr(10) + '</parameter>' + chr(10))}"
        parts.append(pair if required else f"({pair})?")
    return " ".join([*parts, lark_text("</function>\n"), rules.marker("</tool_call>")])


def _glm(tool: Tool, rules: Rules) -> str:
    parts = [lark_text(f"{tool.name}\n")]
    for key, value, required in _parameters(tool):
        head = (
            f"{rules.marker('<arg_key>')} {lark_text(key)} {rules.marker('</arg_key>')} "
            f"{lark_text(chr(10))} {rules.marker('<arg_value>')}"
        )
        pair = f"{head} {_value(value, rules, '</arg_value>')} {lark_text(chr(10))}"
        parts.append(pair if required else f"({pair})?")
    return " ".join([*parts, rules.marker("</tool_call>")])


def _parameters(tool: Tool) -> list[tuple[str, Mapping[str, Any], bool]]:
    """(name, schema, whether it must be there), in the schema's order; its definitions go with each."""
    properties = tool.parameters.get("properties")
    required = tool.parameters.get("required")
    names = set(required) if isinstance(required, list) else set()
    shared = {key: tool.parameters[key] for key in ("$defs", "definitions") if key in tool.parameters}
    given = properties if isinstance(properties, Mapping) else {}
    return [
        (key, {**shared, **value} if isinstance(value, Mapping) else {}, key in names)
        for key, value in given.items()
    ]


def _value(schema: Mapping[str, Any], rules: Rules, end: str) -> str:
    """A value as text, and the tag after it. A text is free up to the tag; other values are JSON."""
    choices = schema.get("enum", [schema["const"]] if "const" in schema else None)
    if isinstance(choices, list) and choices:
        texts = [one if isinstance(one, str) else json.dumps(one, ensure_ascii=False) for one in choices]
        return f"({' | '.join(map(lark_text, texts))}) {_end(rules, end)}"
    if "string" in types_of(schema):
        text = rules.named(r"/(.|\n)*/", terminal=True)
        if rules.is_control(end):
            return f"{text} {rules.marker(end)}"
        return rules.named(f"{text} {lark_text(end)}", lazy=True)
    return f"{rules.named(json_rule(dict(schema)))} {_end(rules, end)}"


def _end(rules: Rules, end: str) -> str:
    return rules.marker(end)


#: By the name of the format (engine/answers/formats.py).
WRITINGS: dict[str, Writing] = {
    "hermes": Writing("<tool_call>", _hermes, between="\n"),
    "qwen3_coder": Writing("<tool_call>", _qwen3_coder, between="\n"),
    "glm": Writing("<tool_call>", _glm),
    "llama3": Writing("", _llama3, between="; "),
    "mistral": Writing("[TOOL_CALLS]", _mistral, after="[", between=", ", close="]", is_each=False),
    "mistral_v11": Writing("[TOOL_CALLS]", _mistral_v11),
    "deepseek": Writing(
        "<｜tool▁calls▁begin｜>",
        _deepseek,
        opens="<｜tool▁call▁begin｜>",
        between="\n",
        close="<｜tool▁calls▁end｜>",
        is_each=False,
    ),
    "deepseek_v31": Writing(
        "<｜tool▁calls▁begin｜>",
        _deepseek_v31,
        opens="<｜tool▁call▁begin｜>",
        close="<｜tool▁calls▁end｜>",
        is_each=False,
    ),
    "kimi_k2": Writing(
        "<|tool_calls_section_begin|>",
        _kimi,
        opens="<|tool_call_begin|>",
        close="<|tool_calls_section_end|>",
        is_each=False,
    ),
}
