"""Chat messages as a client sends them: checked at the door, and brought into one shape.

What depends on the template (is a null content null or ""? are arguments a mapping?) is in message_forms.py.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from engine.errors import RequestError
from engine.text.budget import MAX_INT_BITS

ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})
MAX_ROLE = 64  # characters of a role that is none of these: templates print it
#: Types of a part -> its key that holds text, as OpenAI's two APIs name them.
PART_TEXTS = {"text": "text", "input_text": "text", "output_text": "text", "refusal": "refusal"}
#: Types of parts that hold what the model thought: it goes where templates look for it, not into the answer.
THOUGHTS = {"thinking": "thinking", "reasoning": "text", "redacted_thinking": "text"}
MAX_NESTING = 64  # lists and objects in each other, in a message and in a call's arguments


class Arguments(dict):
    """A tool call's arguments, parsed. text: the JSON they were."""

    def __init__(self, values: Mapping[str, Any], text: str) -> None:
        super().__init__(values)
        self.text = text


def normalize_messages(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Copies in one shape. Raises RequestError naming the message.

    content is a string, a list of parts of type text, or None. Arguments of calls are Arguments where they are a
    JSON object, else the string they were. Keys that are null or empty are left out: clients send a whole answer
    back, `"tool_calls": null` in it, and templates test whether a key is there. What else a message holds stays.
    """
    if not messages:
        raise RequestError("messages must not be empty", param="messages")
    return [_normalized(message, f"messages.[{i}]") for i, message in enumerate(messages)]


def texts_of(messages: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What templates print whole, in messages not yet checked: contents, their parts, calls' arguments.

    For a look at the prompt's length before any template runs.
    """
    for message in messages:
        content = message.get("content")
        parts = content if isinstance(content, list) else [{"text": content}]
        calls = message.get("tool_calls")
        functions = (
            [c.get("function") for c in calls if isinstance(c, dict)] if isinstance(calls, list) else []
        )
        places = [
            (parts, "text"),
            (parts, "refusal"),
            ([*functions, message.get("function_call")], "arguments"),
        ]
        for holders, key in places:
            for holder in holders:
                if isinstance(holder, dict) and isinstance(holder.get(key), str):
                    yield holder[key]


def parse_json(text: str) -> Any:
    """Raises ValueError for what is not JSON, for numbers beyond a double's and for values nested too deep."""
    try:
        value = json.loads(text, parse_constant=_not_json)
        check_value(value, "JSON")
    except (RecursionError, RequestError) as error:
        raise ValueError(str(error)) from None
    return value


def hint_for(messages: Sequence[Mapping[str, Any]]) -> str:
    """What in the normalized messages templates most often refuse, and what would work; or ""."""
    for i, (before, message) in enumerate(pairwise(messages), start=1):
        if before["role"] == message["role"] == "user":
            return f" (messages.[{i - 1}] and messages.[{i}] are both the user's; one message of both may do)"
    for i, message in enumerate(messages):
        for call in message.get("tool_calls", ()):
            function = call.get("function") if isinstance(call, Mapping) else None
            if isinstance(function, Mapping) and isinstance(function.get("arguments"), str):
                return f" (messages.[{i}] has a tool call whose arguments are no JSON object)"
    return ""


def _not_json(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def check_value(value: Any, where: str) -> None:
    """Raises RequestError for a value nested too deep, or with a number that JSON cannot hold."""
    level, depth = [value], 0
    while level:
        inner: list[Any] = []
        for item in level:
            _check_number(item, where)
            if isinstance(item, Mapping):
                inner.extend(item.values())
            elif isinstance(item, list | tuple):
                inner.extend(item)
        level, depth = inner, depth + 1
        if depth >= MAX_NESTING and any(isinstance(item, Mapping | list | tuple) for item in level):
            raise RequestError(f"{where} is nested more than {MAX_NESTING} deep", param=where)


def _normalized(message: Mapping[str, Any], where: str) -> dict[str, Any]:
    check_value(message, where)
    role = message.get("role")
    if not isinstance(role, str) or not 0 < len(role) <= MAX_ROLE:
        raise RequestError(
            f"{where}.role must be a word such as {', '.join(sorted(ROLES))}", param=f"{where}.role"
        )
    normalized = _without_empty(message) | {"role": role}
    normalized["content"], thoughts = _checked_content(message.get("content"), f"{where}.content")
    if isinstance(reasoning := normalized.get("reasoning"), str):  # its other name, which we send too
        normalized.setdefault("reasoning_content", reasoning)
    if thoughts:
        normalized.setdefault("reasoning_content", "\n".join(thoughts))
    if isinstance(calls := normalized.get("tool_calls"), list | tuple):
        normalized["tool_calls"] = [_normalized_call(call) for call in calls]
    if "function_call" in normalized:
        normalized["function_call"] = _with_arguments(normalized["function_call"])
    return normalized


def _check_number(value: Any, where: str) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise RequestError(f"{where} has a number that is not finite", param=where)
    if isinstance(value, int) and value.bit_length() > MAX_INT_BITS:
        raise RequestError(f"{where} has an integer of more than {MAX_INT_BITS} bits", param=where)


def _without_empty(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None and value not in ("", [], {})}


def _normalized_call(call: Any) -> Any:
    if not isinstance(call, Mapping):
        return call
    call = _without_empty(call)
    return call | {"function": _with_arguments(call["function"])} if "function" in call else call


def _with_arguments(function: Any) -> Any:
    """A called function with its arguments parsed. No arguments at all are an empty object."""
    if not isinstance(function, Mapping) or "arguments" not in function:
        return function
    return _without_empty(function) | {"arguments": _parsed_arguments(function["arguments"])}


def _parsed_arguments(given: Any) -> Any:
    if isinstance(given, Mapping):
        return Arguments(given, json.dumps(given, ensure_ascii=False))
    if given is None or (isinstance(given, str) and not given.strip()):
        return Arguments({}, "{}")
    if not isinstance(given, str):
        return given
    try:
        value = parse_json(given)
    except ValueError:
        return given
    return Arguments(value, given) if isinstance(value, dict) else given


def _checked_content(content: Any, where: str) -> tuple[str | list[dict[str, Any]] | None, list[str]]:
    """The content with parts of type text alone, and the thoughts among its parts."""
    if content is None or isinstance(content, str):
        return content, []
    if not isinstance(content, list | tuple):
        raise RequestError(f"{where} must be a string or a list of parts", param=where)
    texts: list[dict[str, Any]] = []
    thoughts: list[str] = []
    for i, part in enumerate(content):
        kind = part.get("type") if isinstance(part, Mapping) else None
        kind = kind if isinstance(kind, str) else ""
        if kind in THOUGHTS:
            thought = part.get(THOUGHTS[kind])
            thoughts += [thought] if isinstance(thought, str) else []
        elif kind in PART_TEXTS:
            text = _part_text(part, PART_TEXTS[kind], f"{where}.[{i}]")
            texts.append(part if kind == "text" else {"type": "text", "text": text})
        else:
            raise _other_part(kind, f"{where}.[{i}]")
    return texts, thoughts


def _part_text(part: Mapping[str, Any], key: str, where: str) -> str:
    text = part.get(key)
    if not isinstance(text, str):
        raise RequestError(f"{where}.{key} must be a string", param=f"{where}.{key}")
    return text


def _other_part(kind: str, where: str) -> RequestError:
    """Images and sound, mostly. The type is shown where it is a word: nothing that was sent is repeated whole."""
    shown = kind if re.fullmatch(r"[a-z0-9_]{1,32}", kind) else "another kind"
    known = ", ".join(PART_TEXTS)
    return RequestError(
        f"{where} is a part of type {shown}; this model reads text only ({known})", param=where
    )
