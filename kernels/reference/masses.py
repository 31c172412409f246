"""How much of a softmax a token holds, as an integer: step for step kernels/common/mass.h.

top_p keeps the most probable tokens that hold so much of the whole together. Sums of integers are the same in any
order, so that a GPU that adds in parallel finds the same tokens as NumPy does.
"""

import numpy as np

MOST_HALVINGS = 40  # below the highest: what has less than its 2^-40th part counts as nothing
LOG2_E = np.float32(1.44269504)
#: 2^f for f in [-1/2, 1/2] is the sum of LN2^i / i! f^i, within 2e-7.
TERMS = np.array(
    [1.0, 0.6931471806, 0.2402265070, 0.0555041087, 0.0096181291, 0.0013333558, 0.0001540353], np.float32
)


def masses(below: np.ndarray, rate: np.float32) -> np.ndarray:
    """exp(below * rate) * 2^40, uint64 [n]; below float32 [n]: logit - highest, at most 0. A NaN has no mass."""
    with np.errstate(over="ignore", invalid="ignore"):  # a rate of 0 times -infinity is a NaN
        y = below * rate * LOG2_E
    counts = y >= -MOST_HALVINGS
    y = np.where(counts, y, np.float32(0))
    k = np.rint(y)
    f = y - k
    power = np.full_like(f, TERMS[-1])
    for term in TERMS[-2::-1]:
        power = power * f + term
    scaled = (power * np.float32(1 << 24)).astype(np.uint64) << np.uint64(16)
    return np.where(counts, scaled >> (-k).astype(np.uint64), np.uint64(0))
