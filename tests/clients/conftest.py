"""A live server whose model follows a script: it calls the tools that it is given, then says what they gave."""

from collections.abc import Iterator

import pytest

from support.agent_script import script
from support.in_process import InProcess
from support.scripted_model import scripted_engine


@pytest.fixture(scope="module")
def live() -> Iterator[InProcess]:
    with InProcess(scripted_engine(script)) as server:
        yield server


@pytest.fixture(scope="module")
def base_url(live: InProcess) -> str:
    return f"{live.url}/v1"
