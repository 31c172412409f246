"""The masks of guided requests, worked out while the backend computes the logits that they are for."""

import logging
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from engine.errors import GuideError
from engine.request import Request

logger = logging.getLogger("espalier.engine")


class MaskThread:
    """One thread, for backends whose operations return when they have run. The first guided request starts it."""

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None

    def begin(self, requests: Sequence[Request], n_words: int) -> "Future[None]":
        """Fill the requests' masks; the caller waits for the result before it takes them."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, "masks")
        return self._pool.submit(fill_masks, list(requests), n_words)


def fill_masks(requests: Sequence[Request], n_words: int) -> None:
    for request in requests:
        fill_mask(request, n_words)


def fill_mask(request: Request, n_words: int) -> None:
    """request.mask: its guide's. One that fails allows nothing, and the request ends with `failure`."""
    if request.guide is None or request.mask is not None:
        return
    words = np.empty(n_words, np.int32)
    try:
        if not request.guide.fill_mask(words):
            words[:] = -1
    except Exception as error:
        words[:] = 0
        request.failure = failure_of(error)
    request.mask = words


def failure_of(error: Exception) -> str:
    """One line for the client; the log has what is not its business."""
    if isinstance(error, GuideError):
        return str(error)
    logger.error("a guide failed", exc_info=error)
    return "what restricts the answer has failed"
