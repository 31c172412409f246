"""The natural logarithm in plain IEEE operations, step for step that of kernels/common/logarithm.h.

Libraries differ in the last bits of theirs, and a token is chosen by the highest of sums with logarithms in them:
the same one on every machine and backend only if these are the same.
"""

import numpy as np

N_TERMS = 11  # of the series: the last is below 2^-56 of the first
SQRT_HALF, LN_2 = 0.70710678118654757, 0.69314718055994529


def logarithm(x: np.ndarray) -> np.ndarray:
    """log(x) of positive normal float64 values, within 4 ulp.

    x = m 2^e with m between sqrt(1/2) and sqrt(2); with s = (m - 1) / (m + 1), log m is 2 (s + s^3/3 + s^5/5 + ...).
    """
    m, e = np.frexp(x)
    low = m < SQRT_HALF
    m = np.where(low, m * 2.0, m)
    e = e - low
    s = (m - 1.0) / (m + 1.0)
    z = s * s
    total = np.full_like(s, 1.0 / (2 * N_TERMS - 1))
    for i in reversed(range(N_TERMS - 1)):
        total = total * z + 1.0 / (2 * i + 1)
    return e * LN_2 + 2.0 * s * total
