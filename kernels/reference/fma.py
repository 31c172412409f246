"""The fused multiply-add that NumPy lacks."""

import numpy as np


def fma32(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """a * b + c of float32 arrays, rounded once.

    The product of two floats is exact in double. The sum is rounded to odd in double (its error, by TwoSum, says
    whether the last bit stands for more), and an odd double rounds to the float that the exact sum would.
    """
    product = a.astype(np.float64) * b.astype(np.float64)
    addend = np.broadcast_to(c.astype(np.float64), product.shape)
    total = product + addend
    back = total - product
    error = (product - (total - back)) + (addend - back)
    bits = total.view(np.int64)
    toward_error = np.where((error > 0) == (total > 0), 1, -1)
    inexact = np.isfinite(total) & (error != 0) & (bits & 1 == 0)
    return np.where(inexact, bits + toward_error, bits).view(np.float64).astype(np.float32)
