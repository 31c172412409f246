"""Chat messages as templates expect them: a known role, and content that is one string."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from engine.errors import RequestError

#: DeepSeek's templates know an answer that only calls tools by its content.
TESTS_FOR_NULL = re.compile(r"""content['"]?\]? is (not )?none""")
ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})


def normalize_messages(
    messages: Sequence[Mapping[str, Any]], template_source: str = ""
) -> list[dict[str, Any]]:
    """Copies with flat contents. Raises RequestError naming the message.

    Parts of type text are joined by newlines. A null content reads "", as templates concatenate it, but for a
    template that tests for it. The role developer becomes system for a template that does not know it. What else
    a message holds stays in it.
    """
    if not messages:
        raise RequestError("messages must not be empty", param="messages")
    return [_normalized(message, f"messages.[{i}]", template_source) for i, message in enumerate(messages)]


def _normalized(message: Mapping[str, Any], where: str, template_source: str) -> dict[str, Any]:
    role = message.get("role")
    if not isinstance(role, str) or role not in ROLES:
        raise RequestError(f"{where}.role must be one of {', '.join(sorted(ROLES))}", param=f"{where}.role")
    if role == "developer" and "developer" not in template_source:
        role = "system"
    content = message.get("content")
    if content is not None or not TESTS_FOR_NULL.search(template_source):
        content = _flat(content, f"{where}.content")
    return dict(message) | {"role": role, "content": content}


def _flat(content: Any, where: str) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, list | tuple):
        raise RequestError(f"{where} must be a string or a list of parts", param=where)
    return "\n".join(_part_text(part, where) for part in content)


def _part_text(part: Any, where: str) -> str:
    kind = part.get("type") if isinstance(part, Mapping) else None
    if kind != "text":
        shown = ascii(kind)[:40]
        raise RequestError(f"{where} has a part of type {shown}; this model reads text only", param=where)
    if not isinstance(part.get("text"), str):
        raise RequestError(f"{where} has a text part without a text", param=where)
    return part["text"]
