"""SentencePiece's BPE: merge the adjacent pair whose joined text scores highest, leftmost first on ties.

Why not the `tokenizers` library: its merges are ranked per pair, so two pairs of equal score never fall to
the leftmost. With the scores of 200 random small vocabularies drawn from three values, 9 % of 40 000 texts
came out differently (with distinct scores none, but real files do hold equal ones).

The merging is native (kernels/cpu/text/spm_merge.h) and works without the interpreter's lock, O(n log n) in a segment
between two places where no token can reach across, for usual vocabularies a word.
"""

import re
from collections.abc import Iterable

from engine.errors import ModelFileError
from engine.text.keys import PREFIX
from engine.text.token_kind import TokenKind
from engine.text.vocabulary import Vocabulary
from kernels.cpu._native import SpmMerger

SPACE = "▁"  # U+2581, SentencePiece's visible space
MERGEABLE = (TokenKind.NORMAL, TokenKind.UNUSED)


class SpmEncoder:
    """Text whose spaces are already SPACE -> token ids. Knows nothing of special tokens and prefixes."""

    space = SPACE

    def __init__(self, vocabulary: Vocabulary) -> None:
        """Raises ModelFileError for a vocabulary that could not encode every text."""
        if vocabulary.unk_id is None and len(vocabulary.byte_ids) < 256:
            raise ModelFileError(
                f"{PREFIX}tokens: {len(vocabulary.byte_ids)} of the 256 byte tokens and no unknown token, "
                "so that some texts could not be encoded"
            )
        kinds = vocabulary.kinds
        ids = {text: i for i, text in enumerate(vocabulary.texts) if text and kinds[i] in MERGEABLE}
        before_space = characters_before_space(ids)
        self.boundary = boundary_pattern(before_space)
        self._merger = SpmMerger(
            texts=list(ids),
            ids=list(ids.values()),
            scores=[vocabulary.scores[i] for i in ids.values()],
            unused=[kinds[i] is TokenKind.UNUSED for i in ids.values()],
            byte_ids=[vocabulary.byte_ids.get(byte, -1) for byte in range(256)],
            unk_id=-1 if vocabulary.unk_id is None else vocabulary.unk_id,
            before_space=sorted(before_space),
        )

    def encode(self, text: str) -> list[int]:
        return self._merger.encode(text)

    def bytes_of(self, text: str, kind: TokenKind) -> bytes:
        """What a token that stands for text adds to it."""
        return text.replace(SPACE, " ").encode("utf-8")


def characters_before_space(token_texts: Iterable[str]) -> set[str]:
    """The characters that stand before a SPACE inside some token, and SPACE itself."""
    found = {SPACE}
    for text in token_texts:
        if SPACE in text[1:]:
            found.update(text[i - 1] for i in range(1, len(text)) if text[i] == SPACE)
    return found


def boundary_pattern(before_space: Iterable[str]) -> re.Pattern[str]:
    """The SPACE before which a text may be cut: its left neighbour stands before SPACE in no token."""
    return re.compile(f"{SPACE}(?<=[^{''.join(map(re.escape, sorted(before_space)))}]{SPACE})")
