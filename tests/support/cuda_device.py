"""CuPy for the CUDA backend's tests: a card where `make gpu-check` runs them on one, else the emulation."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from support.fake_cupy import Machine, installed

ON_CARD = os.environ.get("ESPALIER_TEST_ON_CARD") == "1"


@contextmanager
def cuda_device(machine: Machine | None = None) -> Iterator[None]:
    """Within it the CUDA backend finds a device. `machine` describes the emulated one; a card is what it is."""
    with nullcontext() if ON_CARD else installed(machine or Machine()):
        yield
