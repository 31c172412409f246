"""One vector for a text: the hidden states of its tokens, brought together."""

from typing import Literal, get_args

import numpy as np

from engine.errors import EspalierError

Pooling = Literal["mean", "last", "cls"]  # of all tokens, the last one's, the first one's
POOLINGS: tuple[Pooling, ...] = get_args(Pooling)


class Pool:
    """Takes in the hidden states of one prompt as they come. Sums are float64, so that long texts lose nothing."""

    def __init__(self, pooling: Pooling) -> None:
        self._pooling = pooling
        self._n_tokens = 0
        self._sum: np.ndarray = np.zeros(0)  # float64 [n_embd] of the tokens that count

    def push(self, hidden: np.ndarray) -> None:
        """hidden: float32 [n, n_embd] of the prompt's next n tokens, at least one."""
        if self._pooling == "last":
            self._sum = hidden[-1].astype(np.float64)
        elif self._n_tokens == 0:
            rows = hidden if self._pooling == "mean" else hidden[:1]
            self._sum = rows.sum(axis=0, dtype=np.float64)
        elif self._pooling == "mean":
            self._sum += hidden.sum(axis=0, dtype=np.float64)
        self._n_tokens += len(hidden)

    def vector(self, dimensions: int | None = None, *, normalize: bool = True) -> "Embedding":
        """The first `dimensions` numbers; normalize: scaled to a Euclidean length of 1.

        Raises EspalierError where the model's numbers are not finite.
        """
        pooled = (self._sum / self._n_tokens if self._pooling == "mean" else self._sum)[:dimensions]
        length = float(np.sqrt(np.square(pooled).sum()))
        if not np.isfinite(length):
            raise EspalierError("the model's hidden states are not finite")
        return Embedding(pooled / length if normalize and length > 0 else pooled)


class Embedding:
    """A pooled vector, in the two forms that are sent."""

    def __init__(self, values: np.ndarray) -> None:
        """values: float64 [dimensions]."""
        self._values = values.astype("<f4")

    def numbers(self) -> list[float]:
        """float32 values."""
        numbers: list[float] = self._values.tolist()
        return numbers

    def little_endian(self) -> bytes:
        """float32, four bytes each."""
        return self._values.tobytes()
