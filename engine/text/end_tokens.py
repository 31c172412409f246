"""Which tokens end an answer, and which mark turns, whatever their type in the file.

Converters often list <|im_end|> or <|user|> as an ordinary token. Read so, an answer never ends, a template's turns
are cut into letters, and a user's text could write a turn. So these are known by their texts; llama.cpp has the same
list. Each correction is a note for the person who started the server.
"""

import re
from collections.abc import Callable, Collection, Sequence

from engine.text.token_kind import TokenKind

#: Tokens with these texts end a turn, whether or not the metadata says so.
END_TEXTS = frozenset(
    {"</s>", "<eos>", "<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|end|>", "<|endoftext|>", "<|end_of_text|>"}
    | {"<end_of_turn>", "<turn|>", "<end_of_utterance>", "<EOT>", "_<EOT>", "[EOT]", "[EOS]", "[e~["}
    | {"<｜end▁of▁sentence｜>", "<|return|>", "<|call|>", "<|calls|>", "<|flush|>", "<|tool_response>"}
    | {
        "<|fim_pad|>",
        "<|fim_repo|>",
        "<|repo_name|>",
        "<|file_sep|>",
    }  # after a filled-in middle
)
# Models with such a set end a turn by these alone; <|end|> ends one of several messages of a turn.
ENDS_AFTER_MESSAGES = (frozenset({"<|return|>", "<|call|>"}), frozenset({"<|flush|>", "<|calls|>"}))
STRUCK = "</s>"  # also the end of struck-out text in HTML
RETYPED = (TokenKind.NORMAL, TokenKind.USER_DEFINED, TokenKind.UNUSED, TokenKind.UNKNOWN)
ROLES = ("user", "assistant", "system", "tool", "observation")
# What turn markers look like. Tags that a client reads or sends back as text (<think>, <tool_call>) do not.
MARKER = re.compile(
    r"<[|｜]\S+>|<\S+[|｜]>|<(start|end|begin)_of_\w+>|</?_?(user|assistant|system|human|bot|sop|eop)>"
    r"|<(extra_id|special|reserved|unused)_?\d+>|\[UNUSED_TOKEN_\d+\]|\[gMASK\]|\[/?[A-Z]+(_[A-Z]+)*\]",
    re.IGNORECASE,
)


def end_ids_by_text(
    texts: Sequence[str], kinds: Sequence[TokenKind], eos_id: int | None, is_merged: Callable[[str], bool]
) -> set[int]:
    """The tokens whose text ends a turn. is_merged: whether ordinary text becomes that token by merges."""
    found = {i for i, text in enumerate(texts) if text in END_TEXTS}
    present = {texts[i] for i in found}
    if any(ends <= present for ends in ENDS_AFTER_MESSAGES):
        found -= {i for i in found if texts[i] == "<|end|>"}
    struck = {i for i in found if texts[i] == STRUCK and kinds[i] is not TokenKind.CONTROL and i != eos_id}
    if struck and ("<eos>" in present or is_merged(STRUCK)):
        found -= struck
    return {i for i in found if kinds[i] in (*RETYPED, TokenKind.CONTROL)}


def marker_ids(texts: Sequence[str], kinds: Sequence[TokenKind], template_source: str) -> set[int]:
    """Tokens that the template writes as turn markers though their type in the file is a text's."""
    candidates = (i for i, kind in enumerate(kinds) if kind in RETYPED and kind is not TokenKind.UNKNOWN)
    return {i for i in candidates if MARKER.fullmatch(texts[i]) and _is_written(texts[i], template_source)}


def _is_written(text: str, source: str) -> bool:
    """Literally, or put together around a role: '<|' + message.role + '|>'."""
    if text in source:
        return True
    return any(role in text and all(map(source.__contains__, text.split(role, 1))) for role in ROLES)


def retyped_note(ids: Collection[int], texts: Sequence[str], what: str) -> tuple[str, ...]:
    """One line for all of them; none for none."""
    if not ids:
        return ()
    first = ", ".join(f"{i} {texts[i]!a}" for i in sorted(ids)[:3])
    more = f" and {len(ids) - 3} more" if len(ids) > 3 else ""
    return (f"the file types these tokens as text, but {what}: {first}{more}",)
