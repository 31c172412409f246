"""Which rows of logits the host has to see: those of requests that read more of a row than its highest logit.

A greedy request without penalties or bias is decided where the logits are, if the backend does that (`Ops.peaks`):
eight bytes a row cross to the host. The other rows cross as they are, and sampling.py draws from them.
"""

from collections.abc import Sequence

import numpy as np

from engine.forward import Output
from engine.request import Request
from engine.sampling import Sampled, needs_only_the_peak, of_peak, sample
from kernels.ops import Ops


def choose(ops: Ops, output: Output, requests: Sequence[Request]) -> list[Sampled]:
    """One token for each row: row i for requests[i], as sampling.sample would choose from all of the logits."""
    if output.peaks is None:
        return sample(ops.to_host(output.logits)[: output.n_rows], requests)
    whole = [i for i, request in enumerate(requests) if not needs_only_the_peak(request.params)]
    if len(whole) == len(requests):
        return sample(ops.to_host(output.logits)[: output.n_rows], requests)
    peaks = ops.to_host(output.peaks)[: output.n_rows]
    chosen = [
        of_peak(int(token_id), float(peak))
        for peak, token_id in zip(peaks[:, 0], peaks[:, 1].view(np.int32), strict=True)
    ]
    if whole:
        rows = ops.take_rows(output.logits, ops.index_array(np.array(whole)))
        for i, sampled in zip(whole, sample(ops.to_host(rows), [requests[i] for i in whole]), strict=True):
            chosen[i] = sampled
    return chosen
