"""Quantizing: the bytes decode to what was fitted, no codeword is overlooked, nothing depends on threads."""

from pathlib import Path

import numpy as np
import pytest

from engine.quantization.kt import quantize_iq4_kt
from engine.quantization.legacy import quantize_q8_0
from kernels.cpu.codewords import CodewordSearch, iq4_kt_codewords
from kernels.quant_tensor import TYPES
from kernels.reference.formats import dequantize

#: The peer's relative error on Gaussian rows without an importance matrix (issue 5's baseline, docs/logbook.md).
PEER_GAUSSIAN = 0.0964


@pytest.fixture(scope="module")
def rng() -> np.random.Generator:
    return np.random.default_rng()


def decoded(type_name: str, packed: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    return dequantize(type_name, packed.reshape(-1), *shape)


def relative_error(x: np.ndarray, y: np.ndarray, weight: np.ndarray | float = 1.0) -> float:
    return float(np.sqrt((weight * (x - y) ** 2).sum() / (weight * x**2).sum()))


@pytest.mark.parametrize("high_offset", [False, True])
@pytest.mark.parametrize("size", [5.0, 40.0, 400.0])
def test_the_nearest_codeword_is_the_nearest_of_all(
    rng: np.random.Generator, size: float, high_offset: bool
) -> None:
    targets = rng.normal(0, size, (64, 4)).astype(np.float32)
    weights = (rng.random((64, 4)) * (rng.random((64, 4)) < 0.9)).astype(np.float32)  # some are zero
    found = CodewordSearch(2).nearest_iq4_kt(high_offset, targets, weights)
    codewords = iq4_kt_codewords()[int(high_offset)].astype(np.float64)
    distances = (weights[:, None] * (targets[:, None] - codewords) ** 2).sum(axis=2)  # [64, 32768]
    chosen = distances[np.arange(64), found]
    # float32 sums of four products: two distances closer than this look equal to the search
    assert (chosen <= distances.min(axis=1) * (1 + 1e-5) + 1e-6).all()


def test_of_equal_codewords_the_lowest_index_is_found() -> None:
    codewords = iq4_kt_codewords()[0]
    _, first, of = np.unique(codewords, axis=0, return_index=True, return_inverse=True)
    picked = np.arange(0, len(codewords), 97)
    found = CodewordSearch(1).nearest_iq4_kt(False, codewords[picked], np.ones_like(codewords[picked]))
    assert (found == first[of.reshape(-1)[picked]]).all()


def test_gaussian_rows_come_out_closer_than_the_peers(rng: np.random.Generator) -> None:
    """0.0902 on 2048 rows of 1024; 16 rows vary by about 0.0005."""
    x = (rng.standard_normal((16, 1024)) * 0.02).astype(np.float32)
    y = decoded("IQ4_KT", quantize_iq4_kt(x), x.shape)
    assert relative_error(x, y) < 0.0925 < PEER_GAUSSIAN


def test_importance_moves_the_error_to_where_it_costs_less(rng: np.random.Generator) -> None:
    """The ratio of the errors is 0.803 on average and has a deviation of 0.018 (40 draws): the limit is five away."""
    x = rng.standard_normal((8, 512)).astype(np.float32)
    importance = np.exp(rng.standard_normal(512))
    plain, weighted = (decoded("IQ4_KT", quantize_iq4_kt(x, im), x.shape) for im in (None, importance))
    assert relative_error(x, weighted, importance) < 0.9 * relative_error(x, plain, importance)
    assert relative_error(x, plain) < relative_error(x, weighted)


def test_the_golden_rows_come_out_closer_than_the_peers(shared: Path) -> None:
    """Measured: 0.0902 against 0.1040 plain, 0.0657 against 0.0696 under the importance matrix."""
    golden = np.load(shared / "golden" / "IQ4_KT.npz")
    x, importance = golden["weights"], golden["imatrix"]
    plain = decoded("IQ4_KT", quantize_iq4_kt(x), x.shape)
    assert relative_error(x, plain) < 0.9 * relative_error(x, golden["deq_noim"])
    weighted = decoded("IQ4_KT", quantize_iq4_kt(x, importance), x.shape)
    assert relative_error(x, weighted, importance) < 0.96 * relative_error(x, golden["deq_im"], importance)


def test_the_bytes_do_not_depend_on_the_threads(rng: np.random.Generator) -> None:
    x = rng.standard_normal((24, 256)).astype(np.float32)
    one, three = (quantize_iq4_kt(x, threads=n) for n in (1, 3))
    assert (one == three).all()


def test_rows_of_any_size_and_shape_keep_their_precision(rng: np.random.Generator) -> None:
    """Sizes whose squares overflow or vanish in float32, a constant row, a lone weight, a row with an outlier."""
    normal = rng.standard_normal((7, 256)).astype(np.float32)
    x = normal * np.array([1e-28, 1e-10, 1, 1e10, 1e35, 1, 1], np.float32)[:, None]
    x[5] = 3.0
    x[6, 100] = 1000.0
    lone = np.zeros((1, 256), np.float32)
    lone[0, 17] = -2.0
    x = np.concatenate([x, lone])
    y = decoded("IQ4_KT", quantize_iq4_kt(x), x.shape).astype(np.float64)
    # A Gaussian row of 256 has an error near 0.09. Equal weights are between codewords (0.044), and the zeros beside
    # a lone weight, and what is small beside an outlier, are stored as small codewords (0.113).
    for row, bound in enumerate([0.11, 0.11, 0.11, 0.11, 0.11, 0.06, 0.13, 0.13]):
        assert relative_error(x[row].astype(np.float64), y[row]) < bound, row


@pytest.mark.parametrize("smallest", [0.0, 1e-40])
def test_a_row_of_nothing_is_stored_as_zeros(smallest: float) -> None:
    x = np.full((2, 512), smallest, np.float32)
    packed = quantize_iq4_kt(x)
    assert packed.shape == (2, TYPES["IQ4_KT"].row_bytes(512))
    assert not decoded("IQ4_KT", packed, x.shape).any()


@pytest.mark.parametrize(
    ("weights", "importance", "words"),
    [
        (np.zeros((2, 250), np.float32), None, "multiple of 256"),
        (np.zeros(256, np.float32), None, "multiple of 256"),
        (np.zeros((0, 256), np.float32), None, "multiple of 256"),
        (np.full((1, 256), np.nan, np.float32), None, "not finite"),
        (np.ones((1, 256), np.float32), np.ones(255), "256 columns"),
        (np.ones((1, 256), np.float32), -np.ones(256), "from 0 on"),
    ],
)
def test_what_cannot_be_quantized_is_refused(
    weights: np.ndarray, importance: np.ndarray | None, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        quantize_iq4_kt(weights, importance)


def test_an_importance_of_zeros_counts_every_column_alike(rng: np.random.Generator) -> None:
    x = rng.standard_normal((2, 256)).astype(np.float32)
    assert (quantize_iq4_kt(x, np.zeros(256)) == quantize_iq4_kt(x)).all()


def test_progress_reaches_the_last_row(rng: np.random.Generator) -> None:
    told: list[tuple[int, int]] = []
    quantize_iq4_kt(
        rng.standard_normal((3, 256)).astype(np.float32), progress=lambda *rows: told.append(rows)
    )
    assert told[-1] == (3, 3)


def test_q8_0_is_within_half_a_step(rng: np.random.Generator) -> None:
    x = rng.standard_normal((4, 96)).astype(np.float32)
    x[2] = 0
    y = decoded("Q8_0", quantize_q8_0(x), x.shape)
    largest = np.abs(x.reshape(4, 3, 32)).max(axis=2).repeat(32, axis=1)
    # half a step of amax / 127, and the f16 scale may be off by 2^-11 of itself
    assert (np.abs(x - y) <= largest * (0.5 / 127 + 2.0**-11)).all()
