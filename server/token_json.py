"""Long lists as JSON, in parts: the encoder keeps the interpreter's lock while it works, and other threads wait."""

import json
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from engine import RequestError

Item = TypeVar("Item")

PART = 1 << 12  # items that are small; some milliseconds of work


def json_list(
    items: Sequence[Item], told: Callable[[Item], Any], cancelled: threading.Event, part: int = PART
) -> str:
    """The JSON array of told(item), so many items at a time. Raises RequestError when it is cancelled."""
    parts = []
    for start in range(0, len(items), part):
        if cancelled.is_set():
            raise RequestError("the request was cancelled")
        values = [told(item) for item in items[start : start + part]]
        parts.append(json.dumps(values, separators=(",", ":"))[1:-1])
    return f"[{','.join(parts)}]"
