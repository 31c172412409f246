"""Fixtures every test may use: the shared data folder, and one Ops per backend.

With ESPALIER_REQUIRE_SHARED=1 (the CI run sets it) a test that asked for `shared` and skipped although the
folder is there counts as failed: such a skip would hide a check that this machine can make.
"""

import os
from collections.abc import Generator, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest

from kernels import BACKENDS, load_backend
from kernels.ops import Ops
from support.cuda_device import cuda_device
from support.shared_data import shared_folder


@pytest.fixture(scope="session")
def shared() -> Path:
    folder = shared_folder()
    if not folder.is_dir():
        pytest.skip(f"no shared test data at {folder} (set ESPALIER_SHARED)")
    return folder


@contextmanager
def opened(name: str) -> Iterator[Ops]:
    """One backend's Ops: two threads on the CPU, enough for a race to show; the emulated GPU where there is none."""
    with cuda_device() if name == "cuda" else nullcontext():
        yield load_backend(name, **({"threads": 2} if name == "cpu" else {}))


@pytest.fixture(scope="module", params=BACKENDS)
def ops(request: pytest.FixtureRequest) -> Iterator[Ops]:
    """One Ops per backend; the test runs once for each."""
    with opened(request.param) as backend:
        yield backend


@pytest.fixture(scope="module")
def reference_ops() -> Iterator[Ops]:
    with opened("reference") as backend:
        yield backend


@pytest.fixture(scope="module")
def cpu_ops() -> Iterator[Ops]:
    with opened("cpu") as backend:
        yield backend


@pytest.fixture(scope="module")
def cuda_ops() -> Iterator[Ops]:
    with opened("cuda") as backend:
        yield backend


@pytest.fixture(scope="module")
def tensor_ops() -> Iterator[Ops]:
    """The CUDA backend with attention on tensor cores."""
    with cuda_device():
        yield load_backend("cuda", attention="tensor")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, None]:
    report = (yield).get_result()
    required = os.environ.get("ESPALIER_REQUIRE_SHARED") == "1" and shared_folder().is_dir()
    if report.skipped and required and "shared" in getattr(item, "fixturenames", ()):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} skipped although the shared data is here: {report.longrepr}"
