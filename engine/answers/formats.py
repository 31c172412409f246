"""Which way of writing thoughts and calls a model was trained on, found from its chat template."""

from typing import NamedTuple

from engine.answers.calls.json_calls import DEEPSEEK, DEEPSEEK_V31, HERMES, KIMI, LLAMA3, MISTRAL, MISTRAL_V11
from engine.answers.calls.reading import CallFormat
from engine.answers.calls.tagged_calls import GLM, QWEN3_CODER
from engine.answers.thoughts import THOUGHT_FORMATS, ThoughtMarks
from engine.errors import EspalierError

CALL_FORMATS: dict[str, CallFormat] = {
    each.name: each
    for each in (HERMES, QWEN3_CODER, LLAMA3, MISTRAL, MISTRAL_V11, DEEPSEEK, DEEPSEEK_V31, GLM, KIMI)
}
#: What a model is asked for whose template knows no tools.
GENERIC = HERMES
AUTO, NONE = "auto", "none"

#: The first whose texts are all in the template is its format.
_SIGNS: tuple[tuple[CallFormat, tuple[str, ...]], ...] = (
    (KIMI, ("<|tool_call_begin|>",)),
    (DEEPSEEK, ("<｜tool▁call▁begin｜>", "```json")),
    (DEEPSEEK_V31, ("<｜tool▁call▁begin｜>",)),
    (MISTRAL_V11, ("[TOOL_CALLS]", "[ARGS]")),
    (MISTRAL, ("[TOOL_CALLS]",)),
    (GLM, ("<arg_key>",)),
    (QWEN3_CODER, ("<function=", "<parameter=")),
    (LLAMA3, ("<|python_tag|>",)),
    (LLAMA3, ("<|start_header_id|>", '"parameters"')),
)


class AnswerFormat(NamedTuple):
    """thoughts: None where the model writes none. calls: None where calls are not looked for."""

    thoughts: ThoughtMarks | None
    calls: CallFormat | None


def format_of(template_source: str, *, tool_parser: str = AUTO, reasoning_parser: str = AUTO) -> AnswerFormat:
    """tool_parser, reasoning_parser: a name, "none", or "auto" for what the template writes.

    Raises EspalierError for another name.
    """
    return AnswerFormat(_thoughts(template_source, reasoning_parser), _calls(template_source, tool_parser))


def _calls(source: str, name: str) -> CallFormat | None:
    if name == AUTO:
        return next((calls for calls, signs in _SIGNS if all(sign in source for sign in signs)), GENERIC)
    _check(name, list(CALL_FORMATS), "--tool-parser")
    return CALL_FORMATS.get(name)


def _thoughts(source: str, name: str) -> ThoughtMarks | None:
    if name == AUTO:
        return next((marks for marks in THOUGHT_FORMATS.values() if marks.end in source), None)
    _check(name, list(THOUGHT_FORMATS), "--reasoning-parser")
    return THOUGHT_FORMATS.get(name)


def _check(name: str, known: list[str], flag: str) -> None:
    if name not in (NONE, *known):
        raise EspalierError(f"{flag} {name!r} is not known; use {AUTO}, {NONE}, {', '.join(known)}")
