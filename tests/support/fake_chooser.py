"""A backend that chooses tokens itself, on the host: what `kernels.ops.Chooser` says, row by row."""

from collections.abc import Callable

import numpy as np

from engine.choosing import DRAW
from engine.philox import draw
from support.fake_model import FakeOps


class ChoosingOps(FakeOps):
    """Keeps the logits to itself; counts the values it hands out and notes in which order things are asked for."""

    def __init__(self) -> None:
        self.n_values = 0
        self.log: list[str] = []
        self.fail_next_read = False

    @property
    def chooser(self) -> "ChoosingOps":  # type: ignore[override]
        return self

    def begin_step(self) -> None:
        self.log.append("step")

    def choose(self, logits: np.ndarray, draws: np.ndarray) -> np.ndarray:
        chosen = logits.argmax(axis=1).astype(np.int32)
        peaks = logits[np.arange(len(chosen)), chosen]
        for i, (drawn,) in enumerate(draws.view(DRAW)):
            if drawn["temperature"] and np.isfinite(peaks[i]):
                scores = (logits[i].astype(np.float64) - float(peaks[i])) / drawn["temperature"]
                order = np.argsort(-logits[i], kind="stable")[: int(drawn["top_k"]) or None]
                kept = np.sort(order[scores[order] >= drawn["floor"]])
                seed, position = int(drawn["seed"]), int(drawn["position"])
                chosen[i] = draw(kept, scores[kept], seed=seed, position=position)
        return np.stack([peaks, chosen.view(np.float32)], axis=1)

    def fetch(self, chosen: np.ndarray) -> Callable[[], np.ndarray]:
        def wait() -> np.ndarray:
            self.log.append("read")
            if self.fail_next_read:
                self.fail_next_read = False
                raise RuntimeError("the device is gone")
            self.n_values += chosen.size
            return chosen

        return wait

    def pass_on(self, chosen: np.ndarray, rows: np.ndarray, token_ids: np.ndarray) -> None:
        known = rows >= 0
        token_ids[known] = chosen[rows[known], 1].view(np.int32)

    def take_rows(self, x: np.ndarray, rows: np.ndarray) -> np.ndarray:
        return x[rows]

    def to_host(self, x: np.ndarray) -> np.ndarray:
        self.log.append("logits")
        self.n_values += x.size
        return x
