"""Where the larger test data is. The fixture `shared` (conftest.py) skips a test where it is not there."""

import os
from pathlib import Path


def shared_folder() -> Path:
    """The folder in ESPALIER_SHARED, else `shared` beside the checkout. It may not exist."""
    chosen = os.environ.get("ESPALIER_SHARED")
    return Path(chosen) if chosen else Path(__file__).resolve().parents[3] / "shared"
