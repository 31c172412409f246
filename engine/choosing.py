"""Which rows of logits the host has to see, and what the device needs to know to choose from the others.

A request whose token is the highest logit, or a draw at a temperature that only top_k and min_p restrict, is decided
where the logits are, if the backend chooses tokens: eight bytes a row cross to the host. The rows of others
(penalties, bias, top_p) cross as they are, and sampling.py draws from them. The token is the same either way.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np

from engine.forward import Output
from engine.request import Request
from engine.sampling import Sampled, needs_no_masses, needs_only_the_peak, of_peak, sample
from kernels.ops import Ops

#: What the device draws a row by: 32 bytes, which go up as eight int32. Temperature 0 takes the highest logit.
DRAW = np.dtype(
    [
        ("temperature", np.float64),
        ("floor", np.float64),  # of (logit - highest) / temperature, for tokens that may be drawn
        ("seed", np.uint64),
        ("position", np.uint32),
        ("top_k", np.uint32),  # only so many of the highest logits; 0: all
    ]
)


def draws_of(requests: Sequence[Request], n_unread: int = 0) -> np.ndarray:
    """int32 [n_rows, 8], rows of DRAW. Those that the host decides are as for a greedy request.

    n_unread: tokens that each request has by then and that nobody has read.
    """
    draws = np.zeros(len(requests), DRAW)
    for draw, request in zip(draws, requests, strict=True):
        params = request.params
        if params.temperature and needs_no_masses(params):
            floor = math.log(params.min_p) if params.min_p > 0 else -math.inf
            draw["temperature"], draw["floor"] = params.temperature, floor
            draw["seed"], draw["position"] = request.seed, len(request.token_ids) + n_unread
            draw["top_k"] = max(params.top_k, 0)
    return draws.view(np.int32).reshape(len(requests), DRAW.itemsize // 4)


def fetch(ops: Ops, output: Output, requests: Sequence[Request]) -> Callable[[], np.ndarray] | None:
    """Begin to bring the device's choices to the host (`Chooser.fetch`); None where the host decides every row."""
    if ops.chooser is None or output.chosen is None or all(map(needs_all_logits, requests)):
        return None
    return ops.chooser.fetch(output.chosen)


def choose(
    ops: Ops, output: Output, fetched: Callable[[], np.ndarray] | None, requests: Sequence[Request]
) -> list[Sampled]:
    """One token for each row: row i for requests[i], as sampling.sample would choose from all of the logits."""
    if fetched is None:
        return sample(ops.to_host(output.logits)[: output.n_rows], requests)
    pairs = fetched()[: output.n_rows]
    chosen = [
        of_peak(int(token_id), float(peak))
        for peak, token_id in zip(pairs[:, 0], pairs[:, 1].view(np.int32), strict=True)
    ]
    whole = [i for i, request in enumerate(requests) if needs_all_logits(request)]
    if whole:
        rows = ops.take_rows(output.logits, ops.index_array(np.array(whole)))
        for i, sampled in zip(whole, sample(ops.to_host(rows), [requests[i] for i in whole]), strict=True):
            chosen[i] = sampled
    return chosen


def needs_all_logits(request: Request) -> bool:
    """The host decides: its row of logits has to come down."""
    return not (needs_only_the_peak(request.params) or needs_no_masses(request.params))
