"""How many int8 planes stand for the float32 activations of a linear.

A value is off by up to half a step, of which its block's largest has 127; a second plane, of what the first leaves,
divides that by 254, and the products are computed twice (common/linear_formula.h).
"""

PLANES = (1, 2)


def checked_planes(planes: int) -> int:
    """Raises ValueError for a number of planes that no backend has."""
    if planes not in PLANES:
        raise ValueError(f"{planes} planes of activations; there are {' or '.join(map(str, PLANES))}")
    return planes
