"""The rotation speed of each pair of a head's values, and how long contexts stretch it."""

import math
from dataclasses import dataclass

import numpy as np

from engine.errors import ModelFileError
from engine.models.config import RopeConfig
from engine.models.weight_source import WeightSource
from kernels.batches import Array


@dataclass(frozen=True)
class Rope:
    """What `ops.rope_angles` takes besides positions."""

    freqs: Array  # [n_rot / 2], on the backend's device
    mscale: float


def build_rope(rope: RopeConfig, weights: WeightSource) -> Rope:
    """Raises ModelFileError for divisors in the file that no frequency can be divided by."""
    return Rope(weights.to_device(rope_freqs(rope, _divisors(rope, weights))), rope_mscale(rope))


def _divisors(rope: RopeConfig, weights: WeightSource) -> np.ndarray | None:
    if not weights.has("rope_freqs.weight"):
        return None
    divisors = weights.host_vector("rope_freqs.weight", rope.n_rot // 2)
    if not (np.isfinite(divisors).all() and (divisors > 0).all()):
        raise ModelFileError("tensor 'rope_freqs.weight' holds a number that is not above zero and finite")
    return divisors


def rope_freqs(rope: RopeConfig, divisors: np.ndarray | None = None) -> np.ndarray:
    """Radians per position, [n_rot / 2] float32.

    divisors [n_rot / 2]: the file's `rope_freqs.weight` (Llama 3 stretches each pair by its own factor).
    """
    pairs = np.arange(rope.n_rot // 2, dtype=np.float64)
    freqs = rope.freq_base ** (-2.0 * pairs / rope.n_rot)
    if divisors is not None:
        freqs = freqs / divisors.astype(np.float64)
    if rope.scaling == "linear":
        freqs = freqs / rope.factor
    elif rope.scaling == "yarn":
        kept = _yarn_kept(rope, pairs)
        freqs = freqs * kept + freqs / rope.factor * (1.0 - kept)
    return freqs.astype(np.float32)


def rope_mscale(rope: RopeConfig) -> float:
    """What cos and sin are multiplied by: yarn sharpens attention, as scores over a longer context spread."""
    if rope.scaling == "yarn" and rope.ext_factor > 0:
        return rope.attn_factor * (1.0 + 0.1 * math.log(max(rope.factor, 1.0)))
    return rope.attn_factor


def _yarn_kept(rope: RopeConfig, pairs: np.ndarray) -> np.ndarray:
    """How much of each pair keeps its speed, 0..1: "NTK by parts", Peng et al. 2023, arXiv:2309.00071, 3.2.

    Pairs that turn more than beta_fast times over the original context keep it, those below beta_slow turns
    are stretched, and the ones between are mixed along a straight line over the pair's index.
    """

    def pair_with_turns(turns: float) -> float:
        wavelength = rope.original_context / (turns * 2.0 * math.pi)
        return rope.n_rot * math.log(wavelength) / (2.0 * math.log(rope.freq_base))

    low = max(math.floor(pair_with_turns(rope.beta_fast)), 0)
    high = min(math.ceil(pair_with_turns(rope.beta_slow)), rope.n_rot - 1)
    stretched = np.clip((pairs - low) / max(high - low, 0.001), 0.0, 1.0)
    return (1.0 - stretched) * rope.ext_factor
