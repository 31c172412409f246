"""POST /v1/chat/completions."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from server.schemas.field_table import FIELDS
from server.schemas.fields import CHAT, read_body
from server.schemas.generation import GenerationRequest, generation_fields
from server.schemas.thinking import template_variables

_KNOWN = FIELDS.of_route(CHAT)


@dataclass(frozen=True)
class ChatRequest(GenerationRequest):
    """messages stay plain objects: the chat template decides what it reads of them."""

    messages: list[dict[str, Any]]
    template_variables: dict[str, bool]


def chat_request(body: Mapping[str, Any]) -> ChatRequest:
    """Raises ApiError 400 naming the field."""
    values = read_body(body, _KNOWN)
    return ChatRequest(
        **generation_fields(values, default_max_tokens=None),
        messages=values.first("messages"),
        template_variables=template_variables(values.first("thinking")),
    )
