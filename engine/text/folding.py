"""Messages that a template has no place for, told in messages that every template has."""

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

Message = dict[str, Any]
RESULTS = frozenset({"tool", "function"})  # roles


def folded_system(messages: Sequence[Message], keeps_leading: bool) -> list[Message]:
    """System messages become the beginning of the user message after them, or a last one of the user's."""
    leading = list(itertools.takewhile(lambda m: m["role"] == "system", messages))
    folded: list[Message] = []
    waiting = [text_of_content(m["content"]) for m in leading]
    if keeps_leading and leading:
        folded, waiting = [leading[0] | {"content": paragraphs(waiting)}], []
    for message in messages[len(leading) :]:
        if message["role"] == "system":
            waiting.append(text_of_content(message["content"]))
        elif message["role"] == "user":
            folded.append(message | {"content": paragraphs([*waiting, text_of_content(message["content"])])})
            waiting = []
        else:
            folded.append(message)
    if waiting and folded and folded[-1]["role"] == "user":
        folded[-1] = folded[-1] | {"content": paragraphs([folded[-1]["content"], *waiting])}
    elif waiting:
        folded.append({"role": "user", "content": paragraphs(waiting)})
    return folded


def paragraphs(texts: Iterable[str]) -> str:
    return "\n\n".join(text for text in texts if text)


def text_of_content(content: Any) -> str:
    """Parts are joined by newlines."""
    if isinstance(content, list):
        return "\n".join(part["text"] for part in content)
    return content or ""


def has_tools(messages: Iterable[Message]) -> bool:
    """Whether a tool was called, or told something."""
    return any(m["role"] in RESULTS or "tool_calls" in m or "function_call" in m for m in messages)


def folded_tools(messages: Sequence[Message]) -> list[Message]:
    """Calls become lines of JSON in the assistant's content, results and the question after them a user message."""
    folded: list[Message] = []
    after_result = False
    for message in messages:
        is_result = message["role"] in RESULTS
        if after_result and (is_result or message["role"] == "user"):
            texts = (folded[-1]["content"], text_of_content(message["content"]))
            folded[-1] = folded[-1] | {"content": paragraphs(texts)}
        elif is_result:
            folded.append({"role": "user", "content": text_of_content(message["content"])})
        else:
            folded.append(_with_calls_as_text(message))
        after_result = is_result
    return folded


def _with_calls_as_text(message: Message) -> Message:
    calls = [json.dumps(_call(function), ensure_ascii=False) for function in functions_of(message)]
    if not calls:
        return message
    others = {key: value for key, value in message.items() if key not in ("tool_calls", "function_call")}
    return others | {"content": paragraphs([text_of_content(message["content"]), *calls])}


def _call(function: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": function.get("name"), "arguments": function.get("arguments")}


def functions_of(message: Message) -> Iterator[Mapping[str, Any]]:
    """Every function that a message calls."""
    calls = message.get("tool_calls")
    called = (
        [call.get("function") for call in calls if isinstance(call, dict)] if isinstance(calls, list) else []
    )
    return (f for f in (message.get("function_call"), *called) if isinstance(f, Mapping))
