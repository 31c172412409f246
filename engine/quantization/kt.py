"""Float weights to IQ4_KT rows: every codeword of both offsets is considered, and scales are fitted with them.

The error minimized is sum of importance * (x - d * code * v)^2: over the codeword v of each group of four, the
offset and the 7-bit scale code of each 32 weights, and d of each row. For given scales the best codewords are found
exactly (kernels/cpu/codeword_tree.h); scales, codes and d are then improved in turns, and no turn makes the error
larger. Chunks have a fixed size, so the bytes do not depend on the number of threads.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np

from kernels.cpu.codewords import IQ4_KT_GROUP, CodewordSearch, iq4_kt_codewords
from kernels.quant_tensor import TYPES

Progress = Callable[[int, int], None]  # rows done, rows in all

BLOCK = 32  # weights that share a scale code
SUPER_BLOCK = TYPES["IQ4_KT"].block_size
LEAST_CODE, LARGEST_CODE = -64, 63
#: A block's first scales are its largest |weight| over these. Codewords reach 123; a block of equal weights fits best
#: at a third of that, since (40, 40, 40, 40) has near neighbours and (120, 120, 120, 120) has none.
FIRST_REACH = tuple(range(25, 126, 10))
CODES_NEARBY = (-2, -1, 0, 1, 2)  # tried around the code that fits best
MAX_ROUNDS = 6
ENOUGH = 1e-4  # a round that lowers a chunk's error by less than this share is the last
CHUNK_WEIGHTS = 1 << 18  # fitted at a time
LEAST_IMPORTANCE = 1e-4  # of the mean: a column that nothing reads still gets sensible weights
LEAST_EXPONENT = (
    -100
)  # a row with no |weight| of 2^-100 is stored as zeros: its scales would not be normal floats
NEGLIGIBLE = 1e-30  # a scale that nothing is divided by; rows are fitted with their largest |weight| about 1


def quantize_iq4_kt(
    weights: np.ndarray,
    importance: np.ndarray | None = None,
    *,
    threads: int | None = None,
    progress: Progress | None = None,
) -> np.ndarray:
    """File bytes of a matrix, uint8 [n_out, row_bytes].

    weights [n_out, n_in] float32, n_in a multiple of 256. importance [n_in], not negative: what an error in each
    column costs (an imatrix); None: all the same. Raises ValueError for anything else.
    """
    weights, column = _checked(weights, importance)
    n_out, n_in = weights.shape
    search = CodewordSearch(threads)
    rows_at_once = max(CHUNK_WEIGHTS // n_in, 1)
    packed = []
    for first in range(0, n_out, rows_at_once):
        rows = weights[first : first + rows_at_once]
        packed.append(_pack(_Fitter(rows, column, search).fit()))
        if progress is not None:
            progress(min(first + rows_at_once, n_out), n_out)
    return np.concatenate(packed)


def _checked(weights: np.ndarray, importance: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    if weights.ndim != 2 or weights.shape[1] % SUPER_BLOCK or not weights.size:
        raise ValueError(
            f"IQ4_KT rows hold a multiple of {SUPER_BLOCK} weights; the matrix is {weights.shape}"
        )
    if not np.isfinite(weights).all():
        raise ValueError("the matrix has weights that are not finite")
    column = np.ones(weights.shape[1]) if importance is None else np.asarray(importance, np.float64)
    if column.shape != weights.shape[1:] or not np.isfinite(column).all() or (column < 0).any():
        raise ValueError(f"importance is one finite number from 0 on for each of {weights.shape[1]} columns")
    if not column.any():
        column = np.ones_like(column)
    column = column / column.mean()
    return np.asarray(weights, np.float32), np.maximum(column, LEAST_IMPORTANCE).astype(np.float32)


@dataclass
class _Fit:
    """What a block (32 weights) is stored as, and how well that fits. Arrays [n_rows, n_blocks, ...].

    Its error is, up to a constant, scale^2 * vv - 2 * scale * xv with scale = d * code.
    """

    high: np.ndarray  # bool: the offset
    index: np.ndarray  # uint16 [..., 8]: a codeword for each group
    xv: np.ndarray  # float64: sum of importance * weight * codeword
    vv: np.ndarray  # float64: sum of importance * codeword^2

    def take(self, other: "_Fit", where: np.ndarray) -> None:
        """other's blocks in place of these. where bool [n_rows, n_blocks]."""
        for field in fields(self):
            getattr(self, field.name)[where] = getattr(other, field.name)[where]

    def error_at(self, scale: np.ndarray) -> np.ndarray:
        return scale * (scale * self.vv - 2 * self.xv)


@dataclass(frozen=True)
class _Rows:
    d: np.ndarray  # float32 [n_rows]
    code: np.ndarray  # int64 [n_rows, n_blocks]
    fit: _Fit


class _Fitter:
    """A chunk of rows while they are fitted."""

    def __init__(self, rows: np.ndarray, column: np.ndarray, search: CodewordSearch) -> None:
        shape = (len(rows), -1, BLOCK // IQ4_KT_GROUP, IQ4_KT_GROUP)
        # Rows are scaled by a power of two, because squares of the rows as they are could overflow.
        self._exponent = np.frexp(np.abs(rows).max(axis=1))[1]
        self._x = np.ldexp(rows, -self._exponent[:, None]).reshape(shape)  # [n_rows, n_blocks, 8, 4]
        self._w = np.broadcast_to(column, rows.shape).reshape(shape)
        self._wx = self._w * self._x
        self._search = search

    def fit(self) -> _Rows:
        fit = self._free_scales()
        free = np.divide(fit.xv, fit.vv, out=np.zeros_like(fit.xv), where=fit.vv > 0)
        largest = np.take_along_axis(free, np.abs(free).argmax(axis=1)[:, None], axis=1)[:, 0]
        d = largest / LEAST_CODE  # the largest scale gets the code with the larger magnitude
        code = _nearest_code(free, d)
        before = np.inf
        for _ in range(MAX_ROUNDS):
            code = self._better_codes(fit, code, d)
            d = _best_d(fit, code, d)
            error = fit.error_at(d[:, None] * code).sum()
            if before - error <= ENOUGH * self._energy_left(error):
                break
            before = error
        d = np.where(self._exponent > LEAST_EXPONENT, np.ldexp(d, self._exponent), 0).astype(np.float32)
        return _Rows(d, np.where(d[:, None] != 0, code, 0), fit)

    def _energy_left(self, error: float) -> float:
        """The whole error, with the constant that error_at leaves out."""
        return float((self._wx * self._x).sum(dtype=np.float64)) + error

    def _free_scales(self) -> _Fit:
        """Each block's best codewords under a scale of its own, as if any scale could be stored."""
        amax = np.abs(self._x).max(axis=(2, 3))  # [n_rows, n_blocks]
        scales = [sign * amax / reach for sign in (1, -1) for reach in FIRST_REACH]
        tries = (self._searched(scale, high) for high in (False, True) for scale in scales)
        best = next(tries)
        for fit in tries:  # with its best scale a block saves xv^2 / vv; compared without dividing
            best.take(fit, fit.xv**2 * best.vv > best.xv**2 * fit.vv)
        return best

    def _better_codes(self, fit: _Fit, code: np.ndarray, d: np.ndarray) -> np.ndarray:
        """The codes around the best one, each with its own best codewords of both offsets. Changes fit."""
        free = np.divide(fit.xv, fit.vv, out=np.zeros_like(fit.xv), where=fit.vv > 0)
        middle = _nearest_code(free, d)
        error = fit.error_at(d[:, None] * code)
        for nearby in CODES_NEARBY:
            tried = np.clip(middle + nearby, LEAST_CODE, LARGEST_CODE)
            scale = d[:, None] * tried
            for high in (False, True):
                candidate = self._searched(scale, high)
                lower = (candidate_error := candidate.error_at(scale)) < error
                fit.take(candidate, lower)
                code, error = np.where(lower, tried, code), np.where(lower, candidate_error, error)
        return code

    def _searched(self, scale: np.ndarray, high: bool) -> _Fit:
        """The best codewords of one offset under the given scales [n_rows, n_blocks]."""
        safe = np.where(np.abs(scale) > NEGLIGIBLE, scale, 1).astype(np.float32)
        index = self._search.nearest_iq4_kt(high, self._x / safe[..., None, None], self._w)
        v = iq4_kt_codewords()[int(high)][index]  # [n_rows, n_blocks, 8, 4]
        xv = (self._wx * v).sum(axis=(2, 3), dtype=np.float64)
        vv = (self._w * v * v).sum(axis=(2, 3), dtype=np.float64)
        return _Fit(np.full(scale.shape, high), index, xv, vv)


def _nearest_code(scale: np.ndarray, d: np.ndarray) -> np.ndarray:
    safe = np.where(np.abs(d) > NEGLIGIBLE, d, 1)[:, None]
    return np.clip(np.rint(scale / safe), LEAST_CODE, LARGEST_CODE).astype(np.int64)


def _best_d(fit: _Fit, code: np.ndarray, d: np.ndarray) -> np.ndarray:
    """The factor of each row that fits its codes and codewords best; d where nothing depends on it."""
    below = (code**2 * fit.vv).sum(axis=1)
    return np.where(below > 0, (code * fit.xv).sum(axis=1) / np.where(below > 0, below, 1), d)


def _pack(rows: _Rows) -> np.ndarray:
    """The bytes of docs/kt_format.md, uint8 [n_rows, row_bytes]."""
    n_rows = len(rows.d)
    indices = rows.fit.index.astype(np.uint32)
    index = indices.reshape(n_rows, -1, 8, 8)  # [rows, super-blocks, 32-blocks, groups]
    code = (rows.code - LEAST_CODE).astype(np.uint32).reshape(n_rows, -1, 8)
    words = rows.fit.high.reshape(code.shape) | code << 1
    words |= ((index >> 12) << (8 + 3 * np.arange(8, dtype=np.uint32))).sum(axis=3, dtype=np.uint32)
    groups = index.reshape(n_rows, -1, 64)
    middle = groups >> 8 & 15
    blocks = np.concatenate(
        [
            words.astype("<u4").view(np.uint8),
            groups.astype(np.uint8),
            (middle[..., :32] | middle[..., 32:] << 4).astype(np.uint8),
        ],
        axis=2,
    )
    return np.concatenate([rows.d.astype("<f4")[:, None].view(np.uint8), blocks.reshape(n_rows, -1)], axis=1)
