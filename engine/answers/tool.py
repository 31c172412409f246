"""A tool that a model may call."""

from collections.abc import Mapping
from typing import Any, NamedTuple


class Tool(NamedTuple):
    """parameters: JSON Schema of an object. strict: its calls must match it."""

    name: str
    parameters: Mapping[str, Any]
    description: str = ""
    strict: bool = False
