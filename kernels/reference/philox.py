"""Counter-based random numbers: Philox4x32-10 (Salmon, Moraes, Dror and Shaw, SC 2011).

A number is a function of where it is used, not of what was drawn before: the key is the request's seed, the
counter says which token of which position and choice. So the same request draws the same numbers alone, in a
batch, after a preemption and on every backend, whichever tokens survived top_k or top_p.
"""

from collections.abc import Sequence

import numpy as np

from kernels.reference.plain_log import logarithm

M0, M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)  # the round's multipliers
W0, W1 = 0x9E3779B9, 0xBB67AE85  # the key's step from round to round
N_ROUNDS = 10
N_WORDS = 4
LOW_32 = np.uint64(0xFFFFFFFF)
HALF = np.uint64(32)
DOUBT = 1e-9


def philox4x32(counter: Sequence[np.ndarray], key: tuple[int, int]) -> tuple[np.ndarray, ...]:
    """Four words of random bits for each counter.

    counter: four uint64 arrays holding 32-bit words, of shapes that broadcast; key: two 32-bit ints.
    Returns four uint64 arrays of 32-bit words.
    """
    c0, c1, c2, c3 = counter
    for i in range(N_ROUNDS):
        k0 = np.uint64((key[0] + i * W0) & 0xFFFFFFFF)
        k1 = np.uint64((key[1] + i * W1) & 0xFFFFFFFF)
        p0, p1 = c0 * M0, c2 * M1  # 32 x 32 -> 64 bits
        c0, c1, c2, c3 = (p1 >> HALF) ^ c1 ^ k0, p1 & LOW_32, (p0 >> HALF) ^ c3 ^ k1, p0 & LOW_32
    return c0, c1, c2, c3


def uniforms(token_ids: np.ndarray, *, seed: int, position: int, choice: int) -> np.ndarray:
    """One number in (0, 1) for each token id: float64 [len(token_ids)], multiples of 2^-32 plus 2^-33.

    Token t takes word t mod 4 of counter (t div 4, position, choice, 0); the key is seed's low and high word.
    token_ids ascending, without repeats; 0 <= seed < 2 ** 64.
    """
    n = len(token_ids)
    whole = n > 0 and token_ids[-1] == n - 1  # 0 .. n - 1: four tokens share a counter
    groups = np.arange(-(-n // N_WORDS)) if whole else token_ids // N_WORDS
    at = [np.full(1, word, np.uint64) for word in (position, choice, 0)]
    words = philox4x32((groups.astype(np.uint64), *at), (seed & 0xFFFFFFFF, seed >> 32))
    table = np.stack(words, axis=1)  # [n_groups, 4]
    bits = table.reshape(-1)[:n] if whole else table[np.arange(n), token_ids % N_WORDS]
    return (bits.astype(np.float64) + 0.5) * 2.0**-32


def gumbel(token_ids: np.ndarray, *, seed: int, position: int, choice: int = 0) -> np.ndarray:
    """Gumbel(0, 1) noise for each token id: the argmax of logits + noise is a draw from their softmax."""
    return _gumbel_of(uniforms(token_ids, seed=seed, position=position, choice=choice))


def draw(token_ids: np.ndarray, scores: np.ndarray, *, seed: int, position: int) -> int:
    """The token id of the highest score + gumbel noise, of equals the lowest id. scores float64 [len(token_ids)].

    The library's fast logarithm, which is within 1e-12 of ours, says which few can be that one.
    """
    numbers = uniforms(token_ids, seed=seed, position=position, choice=0)
    nearly = scores - np.log(-np.log(numbers))
    few = np.flatnonzero(nearly >= nearly.max() - DOUBT)
    return int(token_ids[few[np.argmax(scores[few] + _gumbel_of(numbers[few]))]])


def _gumbel_of(numbers: np.ndarray) -> np.ndarray:
    return -logarithm(-logarithm(numbers))
