"""Ids from what a pass has left on the backend: those that the device chose, and those of rows that the host decides.

A backend that chooses tokens sends eight bytes a row. Only rows with more changes than a pass has room for
(choice_plan.py) cross as they are, and sampling.py draws from them. The token is the same either way.
"""

from collections.abc import Callable, Sequence

import numpy as np

from engine.forward import Output
from engine.request import Request
from engine.sampling import Sampled, of_peak, sample
from kernels.ops import Ops


def fetch(ops: Ops, output: Output, by_host: Sequence[int]) -> Callable[[], np.ndarray] | None:
    """Begin to bring the device's choices to the host (`Chooser.fetch`); None where the host decides every row."""
    if ops.chooser is None or output.chosen is None or len(by_host) == output.n_rows:
        return None
    return ops.chooser.fetch(output.chosen)


def choose(
    ops: Ops,
    output: Output,
    fetched: Callable[[], np.ndarray] | None,
    by_host: Sequence[int],
    requests: Sequence[Request],
) -> list[Sampled]:
    """One token for each row: row i for requests[i], as sampling.sample would choose from all of the logits."""
    if fetched is None:
        return sample(ops.to_host(output.logits)[: output.n_rows], requests)
    pairs = fetched()[: output.n_rows]
    chosen = [
        of_peak(int(token_id), float(peak))
        for peak, token_id in zip(pairs[:, 0], pairs[:, 1].view(np.int32), strict=True)
    ]
    if by_host:
        rows = ops.take_rows(output.logits, ops.index_array(np.array(by_host)))
        for i, sampled in zip(
            by_host, sample(ops.to_host(rows), [requests[i] for i in by_host]), strict=True
        ):
            chosen[i] = sampled
    return chosen
