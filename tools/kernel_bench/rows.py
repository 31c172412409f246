"""One measured case as a line of the table, and the CSV of all."""

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple


class Row(NamedTuple):
    """gmacs_per_core: weights times tokens, 1e9 a second and thread (for one token: Gweights/s). us: of one call."""

    tier: str
    op: str
    type: str
    rows: int  # attention: heads of queries
    columns: int  # attention: values of a head
    context: int  # attention: cached tokens; 0 elsewhere
    batch: int
    threads: int
    cache: str
    us: float
    us_per_token: float
    gmacs_per_core: float
    gbytes_per_s: float  # of the weights, or the keys and values, as they lie in memory
    ceiling_gmacs_per_core: float
    share: float  # of that ceiling
    bound: str  # the ceiling's name


def write_csv(path: Path, rows: Iterable[Row]) -> None:
    """Raises OSError."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(Row._fields)
        writer.writerows([_short(value) for value in row] for row in rows)


def _short(value: object) -> object:
    return f"{value:.5g}" if isinstance(value, float) else value
