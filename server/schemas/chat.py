"""POST /v1/chat/completions."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from server.errors import ApiError
from server.schemas.field_table import FIELDS
from server.schemas.fields import CHAT, Values, read_body
from server.schemas.generation import GenerationRequest, check_choices, generation_fields
from server.schemas.thinking import ThinkingUse, thinking_use
from server.schemas.tools import ToolUse, tool_use

_KNOWN = FIELDS.of_route(CHAT)


@dataclass(frozen=True)
class ChatRequest(GenerationRequest):
    """messages stay plain objects: the chat template decides what it reads of them.

    continues_last: the answer continues the last message. echo: and has it in front.
    """

    messages: list[dict[str, Any]]
    thinking: ThinkingUse
    add_generation_prompt: bool
    continues_last: bool
    echo: bool
    tool_use: ToolUse


def chat_request(body: Mapping[str, Any]) -> ChatRequest:
    """Raises ApiError 400 naming the field."""
    values = read_body(body, _KNOWN)
    ending: dict[str, Any] = _ending(values)
    return ChatRequest(
        **generation_fields(values, default_max_tokens=None, logprobs=_logprobs(values)),
        messages=values.first("messages"),
        thinking=thinking_use(values),
        tool_use=tool_use(values),
        **ending,
    )


def _ending(values: Values) -> dict[str, bool]:
    """How the prompt ends."""
    continues = values.first("continue_final_message", False)
    adds = values.first("add_generation_prompt")
    echo = values.first("echo", False)
    if continues and adds:
        text = "continue_final_message and add_generation_prompt exclude each other"
        raise ApiError(400, text, param="continue_final_message")
    if echo and not continues:
        raise ApiError(400, "echo repeats a message that is continued: continue_final_message", param="echo")
    check_choices(1, values.first("n", 1), "n")
    return {"add_generation_prompt": adds is not False, "continues_last": continues, "echo": echo}


def _logprobs(values: Values) -> int | None:
    """llama.cpp's n_probs asks for both of OpenAI's fields."""
    n_probs: int | None = values.first("n_probs")
    n_top = values.first("top_logprobs")
    if values.first("logprobs", False):
        return int(n_top or n_probs or 0)
    if n_top is not None:
        raise ApiError(400, "top_logprobs needs logprobs: true", param="top_logprobs")
    return n_probs
