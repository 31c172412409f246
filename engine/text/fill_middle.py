"""Prompts for text in the middle: the tokens that models of code write around what comes before and after it."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from engine.text.keys import PREFIX
from engine.text.vocabulary import Vocabulary

#: Metadata keys, the newer one first; then the texts that families give these tokens (llama.cpp knows the same).
PARTS = {
    "prefix": (
        ("fim_pre_token_id", "prefix_token_id"),
        (
            "<|fim_prefix|>",
            "<fim-prefix>",
            "<fim_prefix>",
            "<｜fim▁begin｜>",
            "<PRE>",
            "▁<PRE>",
            "<|code_prefix|>",
        ),
    ),
    "suffix": (
        ("fim_suf_token_id", "suffix_token_id"),
        (
            "<|fim_suffix|>",
            "<fim-suffix>",
            "<fim_suffix>",
            "<｜fim▁hole｜>",
            "<SUF>",
            "▁<SUF>",
            "<|code_suffix|>",
        ),
    ),
    "middle": (
        ("fim_mid_token_id", "middle_token_id"),
        (
            "<|fim_middle|>",
            "<fim-middle>",
            "<fim_middle>",
            "<｜fim▁end｜>",
            "<MID>",
            "▁<MID>",
            "<|code_middle|>",
        ),
    ),
}


class FillMiddle(NamedTuple):
    """Token ids: prefix_id, the text before, suffix_id, the text after, middle_id. Then the answer."""

    prefix_id: int
    suffix_id: int
    middle_id: int

    def prompt(self, before: Sequence[int], after: Sequence[int]) -> list[int]:
        return [self.prefix_id, *before, self.suffix_id, *after, self.middle_id]


def find_fill_middle(metadata: Mapping[str, Any], vocabulary: Vocabulary) -> FillMiddle | None:
    """None for a model that was not trained on it: one of the three tokens is missing."""
    places = {text: token_id for token_id, text in reversed(list(enumerate(vocabulary.texts)))}
    found = [_find(metadata, places, len(vocabulary.texts), *PARTS[part]) for part in PARTS]
    if None in found or len(set(found)) < len(found):
        return None
    return FillMiddle(*(token_id for token_id in found if token_id is not None))


def _find(
    metadata: Mapping[str, Any],
    places: Mapping[str, int],
    n_vocab: int,
    keys: Sequence[str],
    texts: Sequence[str],
) -> int | None:
    """An id of the metadata that points nowhere counts as none."""
    for key in keys:
        value: Any = metadata.get(PREFIX + key)
        if not isinstance(value, bool) and hasattr(value, "__index__") and 0 <= int(value) < n_vocab:
            return int(value)
    return next((places[text] for text in texts if text in places), None)
