"""What one rendering of a template may use: steps, processor time and memory, counted as it goes.

The sandbox (sandbox.py) reports here. Python's containers are compared, hashed and printed in C, where
nothing can be counted, so the budget sees to it that no value exists whose traversal would be long: `admit`
weighs each new value as a tree. A list that holds one list twice, which holds one list twice, ... is small in
memory and endless to print. A template may append to its own lists and set keys of mappings, of the rendering's
copy of the messages too; values weighed before that are weighed again before the next traversal.
"""

import sys
import threading
import time
from typing import Any

from engine.errors import RequestError

BASE_STEPS = 100_000  # a long real template takes about 60 a message
TRIAL_STEPS = 10_000  # for a conversation of two messages, at load
BASE_BYTES = 8 << 20
BYTES_PER_INPUT = 16  # templates trim, split and concatenate each content a few times
SECONDS = 1.0  # this thread's processor time, so that a busy machine fails no request
MAX_INT_BITS = 4096
MIN_TREE = 8  # what a number counts in a tree
MAX_HEIGHT = 100  # lists in lists; messages.py admits 64, and Python's own recursion ends at about 1000


class Deadline:
    """The processor time of one request, shared by all its tries, and the flag of a client that has left."""

    def __init__(self, cancelled: threading.Event | None = None) -> None:
        self._at = time.thread_time() + SECONDS
        self._cancelled = cancelled

    def check(self) -> None:
        """Raises RequestError when the time is up or the request is cancelled."""
        if self._cancelled is not None and self._cancelled.is_set():
            raise exceeded("the request was cancelled")
        if time.thread_time() > self._at:
            raise exceeded(f"more than {SECONDS:g} s")


class Budget:
    """One rendering's. Every method raises RequestError when the template has used up what it may use."""

    def __init__(self, inputs: Any, deadline: Deadline | None = None, base_steps: int = BASE_STEPS) -> None:
        """inputs: the variables of the rendering; a long conversation may use more."""
        self._deadline = deadline or Deadline()
        # id -> (size, height, the value, kept alive so that the id stays)
        self._trees: dict[int, tuple[int, int, Any]] = {}
        self._inputs: dict[int, tuple[int, int, Any]] = {}
        self._max_tree = self._steps = sys.maxsize
        size, _ = self.tree(inputs)
        self._inputs, self._trees = self._trees, {}  # weighed once, until a template sets a mapping's key
        self._given = inputs  # kept alive, so that the ids of its lists stay theirs
        self._input_lists = {i for i, (_, _, value) in self._inputs.items() if isinstance(value, list)}
        self._steps = base_steps + size
        self._bytes = self._max_tree = BASE_BYTES + BYTES_PER_INPUT * size

    def step(self, n: int = 1) -> bool:
        """Count n steps and look at the clock. Always true, so that it can stand in an expression."""
        self._spend(n)
        self._deadline.check()
        return True

    def _spend(self, n_steps: int) -> None:
        self._steps -= n_steps
        if self._steps < 0:
            raise exceeded("too many steps")

    def require(self, n_bytes: int) -> None:
        """Before an operation that makes n bytes at once."""
        if n_bytes > self._bytes:
            raise exceeded("too much memory")

    def charge(self, n_bytes: int) -> None:
        self.require(n_bytes)
        self._bytes -= n_bytes

    def admit(self, value: Any) -> Any:
        """Account for a value the template has made; returns it."""
        if isinstance(value, str):  # never heavier than what it is charged
            self.charge(sys.getsizeof(value))
        elif isinstance(value, list | tuple | dict):
            self.charge(sys.getsizeof(value))
            self.weigh(value)
        elif isinstance(value, int) and value.bit_length() > MAX_INT_BITS:
            raise exceeded("an integer too large")
        return value

    def weigh(self, value: Any) -> Any:
        """Refuse a value whose tree is larger than all the memory it may use; returns it."""
        if self.tree(value)[0] > self._max_tree:
            raise exceeded("values nested too often")
        return value

    def change(self, values: list[Any], method: str, args: tuple[Any, ...]) -> Any:
        """append or pop on a list of the template's own. All that was weighed may hold it and is forgotten."""
        if id(values) in self._input_lists:
            raise exceeded("a change of the request's own values")
        self.charge(16)  # bytes: a place in the list, and room for it to grow
        result = getattr(values, method)(*args)
        self._trees.clear()
        return result

    def change_mapping(self) -> None:
        """Before a key of a mapping is set. It may be an input, so all that was weighed is forgotten."""
        self.charge(100)  # bytes: a place in the mapping, and room for it to grow
        self._trees.clear()
        self._inputs.clear()

    def tree(self, value: Any, level: int = 0) -> tuple[int, int]:
        """(size, height): about the characters that printing takes, shared parts counted each time."""
        if isinstance(value, str):
            return MIN_TREE + len(value), 0
        if not isinstance(value, list | tuple | dict):
            return MIN_TREE, 0
        known = self._trees.get(id(value)) or self._inputs.get(id(value)) or self._walk(value, level)
        if level + known[1] > MAX_HEIGHT:
            raise exceeded(f"values nested more than {MAX_HEIGHT} deep")
        return known[0], known[1]

    def _walk(self, value: Any, level: int) -> tuple[int, int, Any]:
        if level >= MAX_HEIGHT:  # also a list that holds itself
            raise exceeded(f"values nested more than {MAX_HEIGHT} deep")
        self._spend(len(value))
        size, height = MIN_TREE, 0
        for child in [*value, *value.values()] if isinstance(value, dict) else value:
            child_size, child_height = self.tree(child, level + 1)
            size, height = size + child_size, max(height, child_height)
        self._trees[id(value)] = known = (size, height + 1, value)
        return known


class Exceeded(RequestError):
    """No other form of the messages is tried after it."""


def exceeded(what: str) -> Exceeded:
    return Exceeded(f"the model's chat template went beyond its budget: {what}", param="messages")
