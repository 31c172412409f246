"""A backend that runs asynchronously, as the engine sees one: notes in which order things are asked for."""

import weakref
from collections.abc import Callable

import numpy as np

from kernels.choice_row import Chosen, ChosenTokens
from support.fake_model import FakeOps


class AsynchronousOps(FakeOps):
    """Computes at once all the same. n_values: floats that came to the host."""

    runs_asynchronously = True

    def __init__(self) -> None:
        self.n_values = 0
        self.log: list[str] = []
        self.fail_next_read = False
        self._fetches: weakref.WeakSet[Callable[[], ChosenTokens]] = weakref.WeakSet()

    @property
    def n_unread(self) -> int:
        """Fetches that somebody still holds."""
        return len(self._fetches)

    def begin_step(self) -> None:
        self.log.append("step")

    def fetch_chosen(self, chosen: Chosen, n_rows: int) -> Callable[[], ChosenTokens]:
        fetched = super().fetch_chosen(chosen, n_rows)

        def wait() -> ChosenTokens:
            self.log.append("read")
            if self.fail_next_read:
                self.fail_next_read = False
                raise RuntimeError("the device is gone")
            self.n_values += 2 * n_rows
            return fetched()

        self._fetches.add(wait)
        return wait

    def to_host(self, x: np.ndarray) -> np.ndarray:
        self.log.append("logits")
        self.n_values += x.size
        return x
