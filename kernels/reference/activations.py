"""What stands between the two linears of a feed-forward network."""

import numpy as np


def silu_mul(gate: np.ndarray, up: np.ndarray) -> np.ndarray:
    """silu(gate) * up, elementwise."""
    with np.errstate(over="ignore"):
        return gate / (1 + np.exp(-gate)) * up
