"""Calls whose arguments are JSON: Hermes and its many relatives, Mistral, Llama 3, DeepSeek, Kimi."""

import ast
import json
import re
from collections.abc import Sequence

from engine.answers.calls.reading import NAME, CallFormat, CallReader, Steps
from engine.answers.chars import END, Malformed
from engine.answers.json_object import JsonObject
from engine.answers.output import Draft
from engine.answers.tool import Tool

ARGUMENTS = ("arguments", "parameters")


def call_object(reader: CallReader, known: frozenset[str] | None = None) -> Steps:
    """{"name": ..., "arguments": {...}}, in any order. known: names that are calls; None: every name is.

    Arguments that a model wrote as a JSON text in a string are taken out of it. Without any there are none.
    """
    json_object, draft = JsonObject(), None
    n_told = 0
    while not json_object.is_whole:
        json_object.feed((yield from reader.chars.next()))
        if draft is None and json_object.open_key in ARGUMENTS and json_object.open_value[:1] == ["{"]:
            name = _name(json_object, known)
            draft = None if name is None else Draft(reader.output, name)
        if draft is not None and json_object.open_key in ARGUMENTS:
            draft.add("".join(json_object.open_value[n_told:]))
            n_told = len(json_object.open_value)
    if draft is None:
        name = _name(json_object, known)
        if name is None:
            raise Malformed
        draft = Draft(reader.output, name)
        draft.add(_arguments(json_object))
    draft.finish()


def _name(json_object: JsonObject, known: frozenset[str] | None) -> str | None:
    """None where it has not come yet. Raises Malformed for one that is none."""
    if "name" not in json_object.members:
        return None
    name = json.loads(json_object.members["name"])
    if not isinstance(name, str) or not NAME.fullmatch(name) or (known is not None and name not in known):
        raise Malformed
    return name


def _arguments(json_object: JsonObject) -> str:
    text = next((json_object.members[key] for key in ARGUMENTS if key in json_object.members), "{}")
    if text.startswith('"'):
        text = json.loads(text).strip() or "{}"
        _check_object(text)
    if text == "null":
        text = "{}"
    if not text.startswith("{"):
        raise Malformed
    return text


def _check_object(text: str) -> None:
    """Raises Malformed unless the text is one whole JSON object."""
    json_object = JsonObject()
    for place, char in enumerate(text):
        json_object.feed(char)
        if json_object.is_whole and place + 1 < len(text):
            raise Malformed
    if not json_object.is_whole:
        raise Malformed


def arguments_object(reader: CallReader, name: str) -> Steps:
    """The arguments of a call whose name has come before them."""
    json_object, draft = JsonObject(), Draft(reader.output, name)
    yield from reader.chars.skip_space()
    while not json_object.is_whole:
        char = yield from reader.chars.next()
        json_object.feed(char)
        draft.add(char)
    draft.finish()


def _hermes(reader: CallReader) -> Steps:
    """<tool_call>{"name": ..., "arguments": {...}}</tool_call>"""
    while marker := (yield from reader.content_until(["<tool_call>"])):
        if (yield from reader.attempt(call_object(reader), marker)):
            yield from reader.chars.take("</tool_call>")


def _mistral(reader: CallReader) -> Steps:
    """[TOOL_CALLS][{"name": ..., "arguments": {...}}, ...], or [TOOL_CALLS]name[CALL_ID]...[ARGS]{...} for each."""
    while marker := (yield from reader.content_until(["[TOOL_CALLS]"])):
        yield from reader.attempt(_mistral_calls(reader), marker)


def _mistral_calls(reader: CallReader) -> Steps:
    first = yield from reader.chars.skip_space()
    if first == "{":
        yield from call_object(reader)
    elif first != "[":
        name, marker = yield from reader.name_until(["[ARGS]", "[CALL_ID]", "{"])
        if marker == "[CALL_ID]":
            _, marker = yield from reader.text_until(["[ARGS]"], 256)
        if marker == "{":
            reader.chars.put_back(["{"])
        yield from arguments_object(reader, name)
    else:
        yield from reader.chars.expect("[")
        while not (yield from reader.chars.take("]")):
            yield from call_object(reader)
            reader.chars.mark()
            yield from reader.chars.take(",")


def _llama3(reader: CallReader) -> Steps:
    """{"name": ..., "parameters": {...}}; ... at the start of an answer, or anything after <|python_tag|>.

    Without the tag an object is a call only if it names one of the tools: answers may be JSON.
    """
    known = frozenset(tool.name for tool in reader.tools)
    reader.chars.mark()
    first = yield from reader.chars.skip_space()
    if first == "{":
        while (yield from reader.attempt(call_object(reader, known))):
            if not (yield from reader.chars.take(";")):
                break
    while marker := (yield from reader.content_until(["<|python_tag|>"])):
        yield from reader.attempt(_python_tag(reader), marker)


_BUILT_IN = re.compile(r"\s*([A-Za-z_]\w*)\.call\((.*)\)\s*", re.DOTALL)
_INTERPRETERS = ("code_interpreter", "python", "ipython")


def _python_tag(reader: CallReader) -> Steps:
    """JSON; a built-in tool's name.call(key="value"); or a program, for a tool that runs one."""
    if (yield from reader.chars.skip_space()) == "{":
        yield from call_object(reader)
        while (yield from reader.chars.take(";")):
            reader.chars.mark()
            yield from call_object(reader)
        return
    read: list[str] = []
    while (char := (yield from reader.chars.next())) is not END:
        read.append(char)
    text = "".join(read)
    name, arguments = _built_in(text) or _program(text, reader.tools)
    draft = Draft(reader.output, name)
    draft.add(json.dumps(arguments, ensure_ascii=False))
    draft.finish()


def _built_in(text: str) -> tuple[str, dict[str, object]] | None:
    match = _BUILT_IN.fullmatch(text)
    if match is None:
        return None
    try:
        call = ast.parse(f"f({match[2]})", mode="eval").body
        assert isinstance(call, ast.Call)
        values = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords if keyword.arg}
        json.dumps(values)
    except (SyntaxError, ValueError, TypeError, AssertionError, RecursionError, MemoryError):
        return None
    return match[1], values


def _program(text: str, tools: Sequence[Tool]) -> tuple[str, dict[str, object]]:
    name = next((tool.name for tool in tools if tool.name in _INTERPRETERS), None)
    if name is None or not text.strip():
        raise Malformed
    return name, {"code": text}


def _deepseek(reader: CallReader) -> Steps:
    """<｜tool▁call▁begin｜>name<｜tool▁sep｜>{...}<｜tool▁call▁end｜> (V3.1), or
    <｜tool▁call▁begin｜>function<｜tool▁sep｜>name, a line, ```json, {...}, ``` (V3, R1)."""
    begin, section = "<｜tool▁call▁begin｜>", ("<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>")
    while marker := (yield from reader.content_until([begin, *section])):
        if marker == begin and (yield from reader.attempt(_deepseek_call(reader), marker)):
            yield from reader.chars.take("```")
            yield from reader.chars.take("<｜tool▁call▁end｜>")


def _deepseek_call(reader: CallReader) -> Steps:
    name, _ = yield from reader.name_until(["<｜tool▁sep｜>"])
    if name == "function":
        name, _ = yield from reader.name_until(["\n"])
        yield from reader.chars.expect("```json")
    yield from arguments_object(reader, name)


def _kimi(reader: CallReader) -> Steps:
    """<|tool_call_begin|>functions.name:0<|tool_call_argument_begin|>{...}<|tool_call_end|>, within a section."""
    begin, section = "<|tool_call_begin|>", ("<|tool_calls_section_begin|>", "<|tool_calls_section_end|>")
    while marker := (yield from reader.content_until([begin, *section])):
        if marker == begin and (yield from reader.attempt(_kimi_call(reader), marker)):
            yield from reader.chars.take("<|tool_call_end|>")


def _kimi_call(reader: CallReader) -> Steps:
    call_id, _ = yield from reader.name_until(["<|tool_call_argument_begin|>"])
    name = re.sub(r":\d+$", "", call_id).removeprefix("functions.")
    if not name:
        raise Malformed
    yield from arguments_object(reader, name)


HERMES = CallFormat("hermes", _hermes, ("<tool_call>", "</tool_call>"))
_MISTRAL = ("[TOOL_CALLS]", "[ARGS]", "[CALL_ID]")
MISTRAL = CallFormat("mistral", _mistral, _MISTRAL)
MISTRAL_V11 = CallFormat("mistral_v11", _mistral, _MISTRAL)
LLAMA3 = CallFormat("llama3", _llama3, ("<|python_tag|>",))
_DEEPSEEK = (
    "<｜tool▁calls▁begin｜>",
    "<｜tool▁call▁begin｜>",
    "<｜tool▁sep｜>",
    "<｜tool▁call▁end｜>",
    "<｜tool▁calls▁end｜>",
)
DEEPSEEK = CallFormat("deepseek", _deepseek, _DEEPSEEK)
DEEPSEEK_V31 = CallFormat("deepseek_v31", _deepseek, _DEEPSEEK)
KIMI = CallFormat(
    "kimi_k2",
    _kimi,
    (
        "<|tool_calls_section_begin|>",
        "<|tool_call_begin|>",
        "<|tool_call_argument_begin|>",
        "<|tool_call_end|>",
        "<|tool_calls_section_end|>",
    ),
)
