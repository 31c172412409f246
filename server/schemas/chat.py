"""POST /v1/chat/completions."""

from typing import Any

from pydantic import Field

from server.schemas.generation import MAX_COUNT, GenerationFields

#: Fields of later versions, and the values that ask for nothing.
LATER: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "parallel_tool_calls": (True, False),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "response_format": ({"type": "text"},),
    "audio": (),
    "modalities": (["text"],),
    "store": (False,),
    "prediction": (),
    "web_search_options": (),
    "reasoning_effort": (),
    "chat_template_kwargs": ({},),
    "grammar": (),
    "json_schema": (),
    "structured_outputs": (),
    "guided_json": (),
    "guided_regex": (),
    "guided_choice": (),
    "guided_grammar": (),
    "add_generation_prompt": (True,),
    "continue_final_message": (False,),
    "min_tokens": (0,),
    "stop_token_ids": ([],),
}


class ChatRequest(GenerationFields):
    """messages stay plain objects: the chat template decides what it reads of them."""

    messages: list[dict[str, Any]] = Field(min_length=1, max_length=4096)
    max_completion_tokens: int | None = Field(default=None, ge=1, le=MAX_COUNT)

    @property
    def limit(self) -> int | None:
        """Tokens of the answer; None: to the end of the context."""
        return self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens
