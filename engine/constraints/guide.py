"""A compiled form, followed along one answer."""

import numpy as np
from llguidance import LLMatcher

from engine.constraints.vocabulary import LeadingSpace
from engine.errors import GuideError


class ConstraintGuide:
    """A `Guide`. space: given where the client does not see a space in front of the answer."""

    def __init__(self, matcher: LLMatcher, n_words: int, space: LeadingSpace | None) -> None:
        """n_words: 32-bit words of the matcher's mask; the tokens of a model beyond them have no text."""
        self._matcher = matcher
        self._n_words = n_words
        self._space = space  # until the first token

    def fill_mask(self, words: np.ndarray) -> bool:
        own = words[: self._n_words]
        self._matcher.unsafe_compute_mask_ptr(own.ctypes.data, own.nbytes)
        if self._matcher.is_error():
            raise GuideError(_told(self._matcher))
        words[self._n_words :] = 0
        if self._space is not None:
            _allow_unseen_space(own, self._space)
        return True

    def accept(self, token_id: int) -> None:
        space, self._space = self._space, None
        if space is not None and space.spaced[token_id]:
            rest = space.rest_of(token_id)
            if rest is None:  # a space alone: nothing was shown yet
                return
            token_id = rest
        if not self._matcher.consume_token(token_id):
            raise GuideError(_told(self._matcher))

    @property
    def is_finished(self) -> bool:
        return bool(self._matcher.is_stopped())


def _allow_unseen_space(words: np.ndarray, space: LeadingSpace) -> None:
    """A first token with a space in front shows what comes after it, so that is what the form must allow."""
    n_tokens = len(space.spaced)
    bits = np.unpackbits(words.view(np.uint8), bitorder="little")
    seen = bits[:n_tokens].astype(bool)
    bits[:n_tokens][space.spaced] = 0
    bits[space.ids] = seen[space.rest_ids]
    bits[space.alone] = 1
    words[:] = np.packbits(bits, bitorder="little").view(np.int32)


def _told(matcher: LLMatcher) -> str:
    if "oo many" in matcher.get_error():  # items, states, expressions: the limits of a step
        return "the form of the answer needs more work at this token than this server does for one"
    return "the form of the answer cannot be followed any further"
