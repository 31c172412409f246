"""One small model for all server tests, and a server for each test file that asks for one."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.server_process import ServerProcess, running_server
from support.tiny_models import write_tiny_llama


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights: nonsense text of all kinds of bytes, a context of 512 tokens."""
    return write_tiny_llama(tmp_path_factory.mktemp("models") / "tiny.gguf")


@pytest.fixture(scope="module")
def server(tiny_model: Path) -> Iterator[ServerProcess]:
    with running_server(tiny_model) as running:
        yield running
