"""The numbers of the tensor formats, read from the header that every compiled backend includes.

Written once, in kernels/common/tables.h and tables_grids.h; this parses their two forms, so the reference needs no
native module.
"""

import re
from functools import cache
from pathlib import Path

import numpy as np

import kernels

_COMMON = Path(kernels.__file__).parent / "common"
_HEADERS = (_COMMON / "tables.h", _COMMON / "tables_grids.h")
_NUMBER = re.compile(r"ESP_NUMBER \w+ (\w+) = ([^;]+);")
_TABLE = re.compile(r"ESP_TABLE \w+ (\w+)\[\d+\] = \{([^}]+)\};")


@cache
def _text() -> str:
    return "".join(header.read_text() for header in _HEADERS)


@cache
def number(name: str) -> float:
    """A single number; integers come as whole floats, exactly."""
    text = dict(_NUMBER.findall(_text()))[name]
    return float(int(text.rstrip("u"), 0)) if "." not in text else float(text.rstrip("f"))


@cache
def table(name: str) -> np.ndarray:
    """A table of integers, int32. Read-only."""
    values = np.array([int(part, 0) for part in dict(_TABLE.findall(_text()))[name].split(",")], np.int32)
    values.flags.writeable = False
    return values
