"""The types of cached keys and values, and what they take. q8_0: the rule is kernels/common/kv_q8.h's."""

from collections.abc import Callable

SCALE_DIMS = 32  # dimensions of a head that share one f16 scale in q8_0

_HEAD_BYTES: dict[str, Callable[[int], int]] = {
    "f16": lambda head_dim: 2 * head_dim,
    "q8_0": lambda head_dim: head_dim + 2 * n_scales(head_dim),
}
KV_TYPES = tuple(_HEAD_BYTES)


def n_scales(head_dim: int) -> int:
    """Scales of one head of q8_0; the last may stand for fewer dimensions than the others."""
    return -(-head_dim // SCALE_DIMS)


def head_bytes(kv_type: str, head_dim: int) -> int:
    """Bytes of one position's key, or value, of one KV head."""
    return _HEAD_BYTES[kv_type](head_dim)
