"""CI runs a slice of the slow suites (ESPALIER_SLICE, set by .ci/run); `make test-slow` runs them whole."""

import os

import pytest

IN_SLICE = bool(os.environ.get("ESPALIER_SLICE"))


def of_slice(whole: int, part: int) -> int:
    """How many cases to take."""
    return part if IN_SLICE else whole


def skip_in_slice() -> None:
    if IN_SLICE:
        pytest.skip("not in CI's slice of the slow suites")
