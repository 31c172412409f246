"""What one rendering of a template may use: steps, processor time and memory, counted as it goes.

The sandbox (sandbox.py) reports here. Python's containers are compared, hashed and printed in C, where
nothing can be counted, so the budget sees to it that no value exists whose traversal would be long: `admit`
weighs each new value as a tree. A list that holds one list twice, which holds one list twice, ... is small in
memory and endless to print.
"""

import sys
import time
from typing import Any

from engine.errors import RequestError

BASE_STEPS = 100_000  # a long real template takes about 60 a message
BASE_BYTES = 8 << 20
BYTES_PER_INPUT = 16  # templates trim, split and concatenate each content a few times
SECONDS = 1.0  # of this thread's processor time: a busy machine fails no one
MAX_INT_BITS = 4096


class Budget:
    """One rendering's. Every method raises RequestError when the template has used up what it may use."""

    def __init__(self, inputs: Any) -> None:
        """inputs: the variables of the rendering; a long conversation may use more."""
        self._trees: dict[
            int, tuple[int, Any]
        ] = {}  # id -> (size, the value, kept alive so that the id stays)
        self._max_tree = sys.maxsize
        size = self._tree_size(inputs)
        self._steps = BASE_STEPS + size
        self._bytes = self._max_tree = BASE_BYTES + BYTES_PER_INPUT * size
        self._deadline = time.thread_time() + SECONDS

    def step(self, n: int = 1) -> bool:
        """Count n steps and look at the clock. Always true, so that it can stand in an expression."""
        self._steps -= n
        if self._steps < 0:
            raise exceeded("too many steps")
        if time.thread_time() > self._deadline:
            raise exceeded(f"more than {SECONDS:g} s")
        return True

    def require(self, n_bytes: int) -> None:
        """Before an operation that makes n bytes at once."""
        if n_bytes > self._bytes:
            raise exceeded("too much memory")

    def charge(self, n_bytes: int) -> None:
        self.require(n_bytes)
        self._bytes -= n_bytes

    def admit(self, value: Any) -> Any:
        """Account for a value the template has made; returns it."""
        if isinstance(value, int):
            if value.bit_length() > MAX_INT_BITS:
                raise exceeded("an integer too large")
        elif isinstance(value, str | list | tuple | dict):
            self.charge(sys.getsizeof(value))
            self.weigh(value)
        return value

    def weigh(self, value: Any) -> None:
        """Refuse a value whose tree is larger than all the memory it may use."""
        if self._tree_size(value) > self._max_tree:
            raise exceeded("values nested too often")

    def _tree_size(self, value: Any) -> int:
        """About the characters that printing the value takes, shared parts counted each time."""
        if isinstance(value, str):
            return 8 + len(value)
        if not isinstance(value, list | tuple | dict):
            return 8
        known = self._trees.get(id(value))
        if known is not None:
            return known[0]
        size = 8 + sum(map(self._tree_size, value))
        if isinstance(value, dict):
            size += sum(map(self._tree_size, value.values()))
        self._trees[id(value)] = (size, value)
        return size


def exceeded(what: str) -> RequestError:
    return RequestError(f"the model's chat template went beyond its budget: {what}", param="messages")
