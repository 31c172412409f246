"""Merges for a vocabulary that lists none because its ids are ranks, as tiktoken's are.

There a piece's neighbours are joined wherever that makes a token, the one of the lowest rank first. As a list of
merges: each token's every division into two tokens, in the order of the tokens. Two divisions of one token that
overlap in a piece are taken in the order of the list, where tiktoken takes the left one.
"""

from collections.abc import Mapping

from engine.errors import ModelFileError
from engine.text.keys import PREFIX

# The characters that are looked at, and so the time: tokens by their lengths squared. A vocabulary of 160 000 takes
# a thirtieth of it; a file could state tokens that take hours.
MAX_CHARACTERS = 1 << 28


def merges_by_rank(ids: Mapping[str, int]) -> list[tuple[str, str]]:
    """The merges of normal tokens (text -> id, which is the rank), best first, as pairs of texts.

    Raises ModelFileError where the tokens are too long to be divided.
    """
    if sum(len(text) ** 2 for text in ids) > MAX_CHARACTERS:
        raise ModelFileError(
            f"{PREFIX}merges is missing, and the tokens are too long to find the merges from their order"
        )
    return [
        (text[:cut], text[cut:])
        for text in sorted(ids, key=ids.__getitem__)
        for cut in range(1, len(text))
        if text[:cut] in ids and text[cut:] in ids
    ]
