"""Several guides as one: what all of them allow."""

from collections.abc import Sequence

import numpy as np

from engine.guides.guide import Guide


class Together:
    """Finished as soon as one of them is."""

    def __init__(self, guides: Sequence[Guide]) -> None:
        self._guides = tuple(guides)

    def fill_mask(self, words: np.ndarray) -> bool:
        own = np.empty_like(words)
        restricts = False
        for guide in self._guides:
            if not guide.fill_mask(own):
                continue
            if restricts:
                words &= own
            else:
                words[:] = own
                restricts = True
        return restricts

    def accept(self, token_id: int) -> None:
        for guide in self._guides:
            guide.accept(token_id)

    @property
    def is_finished(self) -> bool:
        return any(guide.is_finished for guide in self._guides)


def together(guides: Sequence[Guide]) -> Guide | None:
    """None for none."""
    if len(guides) < 2:
        return guides[0] if guides else None
    return Together(guides)
