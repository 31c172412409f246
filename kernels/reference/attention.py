"""Attention of one token over the keys and values it may see."""

from itertools import pairwise

import numpy as np

from kernels.ops import KV_SPLIT


def attend(q: np.ndarray, k: np.ndarray, v: np.ndarray, scale: float, begin: int = 0) -> np.ndarray:
    """One token: q [n_head, head_dim], k [n_keys, n_head_kv, head_dim], v [n_keys, n_head_kv, value_dim] -> [n_head,
    value_dim]. It sees the keys from `begin` on; splits are merged in order.
    """
    group = q.shape[0] // k.shape[1]
    k, v = np.repeat(k, group, axis=1), np.repeat(v, group, axis=1)
    scores = np.einsum("hd,khd->hk", q, k) * np.float32(scale)
    cuts = [begin, *range((begin // KV_SPLIT + 1) * KV_SPLIT, len(k), KV_SPLIT), len(k)]
    splits = (_split(scores[:, first:last], v[first:last]) for first, last in pairwise(cuts))
    top, total, merged = next(splits)
    for m, weight, o in splits:
        both = np.maximum(top, m)
        old, new = np.exp(top - both), np.exp(m - both)
        top, total, merged = both, total * old + weight * new, merged * old[:, None] + o * new[:, None]
    return merged / total[:, None]


def _split(scores: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Largest score, sum of exp(score - largest), each [n_head], and the values weighed by it [n_head, value_dim]."""
    m = scores.max(axis=1)
    p = np.exp(scores - m[:, None])
    return m, p.sum(axis=1), np.einsum("hk,khd->hd", p, v)
