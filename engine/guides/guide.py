"""The one seam between the engine and everything that restricts an answer as it grows."""

from typing import Protocol

import numpy as np


class Guide(Protocol):
    """Follows one answer, token by token, and says what may come next.

    `fill_mask` may run on another thread than `accept`, never at the same time. An exception of either ends the
    request with an error, and no other; GuideError's text is told.
    """

    def fill_mask(self, words: np.ndarray) -> bool:
        """Write which tokens may come: bit t % 32 of words[t // 32] allows token t; int32 [ceil(n_vocab / 32)].

        False: every token may, and nothing was written. It changes nothing, however often it is called.
        """

    def accept(self, token_id: int) -> None:
        """The token that was chosen, unless it ended the answer."""

    @property
    def is_finished(self) -> bool:
        """Nothing can follow: the answer ends here."""
