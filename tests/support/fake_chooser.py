"""A backend that chooses tokens itself, on the host: what `kernels.ops.Chooser` says, row by row."""

from collections.abc import Callable

import numpy as np

from engine.choice_plan import DRAW
from engine.masses import masses
from engine.penalties import CHANGE, NO_BIAS, changed
from engine.philox import draw
from engine.types import SamplingParams
from kernels.ops import Selection
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

    def choose(self, logits: np.ndarray, selection: Selection) -> np.ndarray:
        pairs = np.zeros((len(logits), 2), np.float32)
        for i, (drawn,) in enumerate(selection.draws.view(DRAW)):
            self._change(logits[i], drawn, i, selection)
            best = logits[i].argmax()
            pairs[i, 0], chosen = logits[i, best], int(best)
            if drawn["temperature"] and np.isfinite(pairs[i, 0]):
                chosen = _drawn(logits[i], pairs[i, 0], drawn)
            pairs[i, 1] = np.array([chosen], np.int32).view(np.float32)[0]
        return pairs

    def _change(self, row: np.ndarray, drawn: np.void, i: int, selection: Selection) -> None:
        changes = np.empty(0, CHANGE)
        if selection.changes is not None:
            changes = (
                selection.changes[selection.starts[i] : selection.starts[i + 1]]
                .copy()
                .view(CHANGE)
                .reshape(-1)
            )
        if drawn["n_unread"]:
            token_id = selection.token_ids[i]
            if token_id not in changes["token_id"]:
                changes = np.append(changes, np.array([(token_id, 0, 0, NO_BIAS)], CHANGE))
            at = changes["token_id"] == token_id
            changes["n_answered"][at] += 1
            changes["is_seen"][at] = 1
        names = ("repetition_penalty", "frequency_penalty", "presence_penalty")
        params = SamplingParams(**{name: float(drawn[name]) for name in names})
        if len(changes):
            row[:] = changed(row, changes, params)

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


def _drawn(row: np.ndarray, peak: np.float32, drawn: np.void) -> int:
    order = np.argsort(-row, kind="stable")[: int(drawn["top_k"]) or None]
    if drawn["top_p"] < 1:
        held = [float(mass) for mass in np.cumsum(masses(row[order] - peak, drawn["rate"]))]
        order = order[: 1 + next(n for n, sum_ in enumerate(held) if sum_ >= drawn["top_p"] * held[-1])]
    scores = (row.astype(np.float64) - float(peak)) / drawn["temperature"]
    kept = np.sort(order[scores[order] >= drawn["floor"]])
    return draw(kept, scores[kept], seed=int(drawn["seed"]), position=int(drawn["position"]))
