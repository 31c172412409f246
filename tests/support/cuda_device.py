"""CuPy for the CUDA backend's tests: a card where `make gpu-check` runs them on one, else the emulation."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import numpy as np

from support import cuda_emulator
from support.fake_cupy import Machine, installed

ON_CARD = os.environ.get("ESPALIER_TEST_ON_CARD") == "1"
#: Orders to run a block's threads in; a card has its own.
ORDERS = (cuda_emulator.LOWEST_FIRST,) if ON_CARD else cuda_emulator.ORDERS
#: Part of every random input of the kernel tests; `make gpu-check` draws one and prints it.
SEED = int(os.environ.get("ESPALIER_TEST_SEED", "0"))


@contextmanager
def cuda_device(machine: Machine | None = None) -> Iterator[None]:
    """Within it the CUDA backend finds a device. `machine` describes the emulated one; a card is what it is."""
    with nullcontext() if ON_CARD else installed(machine or Machine()):
        yield


def thread_order(order: int) -> AbstractContextManager[None]:
    """One of ORDERS for what runs within."""
    return nullcontext() if ON_CARD else cuda_emulator.thread_order(order)


def generator(*name: int | str) -> np.random.Generator:
    """Random inputs of one test, other ones for another SEED."""
    parts = [[part] if isinstance(part, int) else part.encode() for part in name]
    return np.random.default_rng([SEED, *(number for part in parts for number in part)])
