"""The codewords of a trellis and the exact search among them (codeword_tree.h): what a quantizer asks of the CPU."""

from functools import cache

import numpy as np

from kernels.cpu import _native
from kernels.process_limits import default_threads
from kernels.reference.formats.kt import integer_trellis
from kernels.reference.tables import number

IQ4_KT_CODEWORDS = 1 << 15  # of each offset
IQ4_KT_GROUP = 4  # weights a codeword makes


@cache
def iq4_kt_codewords() -> np.ndarray:
    """float32 [2, 32768, 4]: the weights of every index, for the low and the high offset. Read-only."""
    index = np.arange(IQ4_KT_CODEWORDS)
    offsets = (int(number("kTrellisOffset")), int(number("kTrellisOffsetHigh")))
    table = np.stack([integer_trellis(index + offset, IQ4_KT_GROUP) for offset in offsets]).astype(np.float32)
    table.flags.writeable = False
    return table


class CodewordSearch:
    """threads: None for `default_threads`. The result does not depend on it."""

    def __init__(self, threads: int | None = None) -> None:
        self._native = _native.Backend(threads or default_threads(), "")

    def nearest_iq4_kt(self, high_offset: bool, targets: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """The index of the codeword v with the least sum of weights * (targets - v)^2; of equals the lowest.

        targets and weights float32 [..., 4], weights not negative. uint16 [...].
        """
        flat_targets = np.ascontiguousarray(targets, np.float32).reshape(-1, IQ4_KT_GROUP)
        flat_weights = np.ascontiguousarray(weights, np.float32).reshape(-1, IQ4_KT_GROUP)
        out = np.empty(len(flat_targets), np.uint16)
        self._native.nearest_iq4_kt(high_offset, flat_targets, flat_weights, out)
        return out.reshape(targets.shape[:-1])
