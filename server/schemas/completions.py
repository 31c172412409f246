"""POST /v1/completions."""

from typing import Any

from server.errors import ApiError
from server.schemas.generation import GenerationFields

MAX_PROMPTS = 128
DEFAULT_MAX_TOKENS = 16  # OpenAI's

#: Fields of later versions, and the values that ask for nothing.
LATER: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "best_of": (1,),
    "echo": (False,),
    "logprobs": (),
    "suffix": ("",),
    "prompt_logprobs": (),
    "grammar": (),
    "json_schema": (),
    "response_format": ({"type": "text"},),
    "structured_outputs": (),
    "guided_json": (),
    "guided_regex": (),
    "guided_choice": (),
    "guided_grammar": (),
    "min_tokens": (0,),
    "stop_token_ids": ([],),
}


class CompletionRequest(GenerationFields):
    """prompt: a text, token ids, or a list of either. parse_special: what spells a control token in a text is one."""

    prompt: str | list[Any]
    parse_special: bool | None = None

    @property
    def prompts(self) -> list[str | list[int]]:
        """One entry for each choice. Raises ApiError for a list of anything else."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        if _is_ids(self.prompt):
            return [self.prompt]
        if not self.prompt or len(self.prompt) > MAX_PROMPTS:
            raise ApiError(
                400, f"prompt has {len(self.prompt)} entries; 1 to {MAX_PROMPTS} work", param="prompt"
            )
        if all(isinstance(part, str) for part in self.prompt) or all(map(_is_ids, self.prompt)):
            return list(self.prompt)
        raise ApiError(400, "prompt must be a text, token ids, or a list of one of these", param="prompt")

    @property
    def limit(self) -> int:
        return DEFAULT_MAX_TOKENS if self.max_tokens is None else self.max_tokens


def _is_ids(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(type(token_id) is int for token_id in value)
