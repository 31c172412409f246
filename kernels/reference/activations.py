"""What stands between the two linears of a feed-forward network."""

import numpy as np


def silu_mul(gate: np.ndarray, up: np.ndarray) -> np.ndarray:
    """silu(gate) * up, elementwise."""
    with np.errstate(over="ignore"):
        return gate / (1 + np.exp(-gate)) * up


def gelu_mul(gate: np.ndarray, up: np.ndarray) -> np.ndarray:
    """gelu(gate) * up, elementwise: x / 2 * (1 + tanh(y)) is x / (1 + exp(-2 y))."""
    twice_y = np.float32(2 * (2 / np.pi) ** 0.5) * gate * (1 + np.float32(0.044715) * gate * gate)
    with np.errstate(over="ignore"):
        return gate / (1 + np.exp(-twice_y)) * up
