"""A prompt that ends within its last message, so that the answer continues it.

A template writes an end of turn after every message, and no variable turns that off. So a character that occurs
nowhere else is put at the end of the last message, and the prompt is what the template wrote before it.
"""

from typing import Any

from engine.errors import RequestError


def end_with(message: dict[str, Any], cut: str) -> None:
    """Put `cut` at the end of the message's text. Raises RequestError for one that has none or is not the model's."""
    if message.get("role") != "assistant":
        raise RequestError(
            "the last message must be of role assistant to be continued", param="continue_final_message"
        )
    content = message.get("content")
    if isinstance(content, str):
        message["content"] = content + cut
    elif isinstance(content, list) and content and isinstance(content[-1].get("text"), str):
        content[-1]["text"] += cut
    else:
        raise RequestError(
            "the last message has no text that could be continued", param="continue_final_message"
        )


def until_cut(text: str, cut: str) -> str:
    """What comes before `cut`; all of it where that is empty."""
    if not cut:
        return text
    before, found, _ = text.rpartition(cut)
    if not found:
        raise RequestError(
            "the model's chat template does not write the last message as it is; it cannot be continued",
            param="continue_final_message",
        )
    return before.replace(cut, "")
