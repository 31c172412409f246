"""The recorded passes of one model: who asks for passes owns them, and what they hold goes with it.

A recording holds a program or a graph and no results. Results lie in memory that belongs to the backend and that
passes of every shape share, so that five hundred shapes take no more of it than the largest one.
"""

from collections.abc import Callable, Hashable
from typing import Any

#: A recording takes up to a few hundred KiB; a server that decodes has some ten batch sizes times ten table widths.
MAX_RECORDINGS = 128


class Recordings:
    """At most MAX_RECORDINGS values by key; the one that was used longest ago is forgotten first."""

    def __init__(self) -> None:
        self._values: dict[Hashable, Any] = {}  # the last used one last

    def __len__(self) -> int:
        return len(self._values)

    @property
    def is_full(self) -> bool:
        return len(self._values) >= MAX_RECORDINGS

    def get(self, key: Hashable) -> Any:
        """The value kept for key, now the last used one; None without one."""
        value = self._values.pop(key, None)
        if value is not None:
            self._values[key] = value
        return value

    def put(self, key: Hashable, value: Any) -> None:
        self._values.pop(key, None)
        if self.is_full:
            del self._values[next(iter(self._values))]
        self._values[key] = value


def map_arrays(result: Any, function: Callable[[Any], Any]) -> Any:
    """result with function(array) in each array's place: a tuple, named or not, of arrays, tuples and None."""
    if result is None:
        return None
    if not isinstance(result, tuple):
        return function(result)
    parts = [map_arrays(part, function) for part in result]
    return type(result)(*parts) if hasattr(result, "_fields") else tuple(parts)
