"""No kernel reads or writes past the last byte of a buffer, at any ragged shape, on any tier (R22)."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kernels.cpu import _native
from support.guarded_sweep import FAULTS
from support.slices import skip_in_slice

ROOT = Path(__file__).parents[2]
TIERS = _native.isa_tiers()


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "support.guarded_sweep", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": f"{ROOT / 'tests'}{os.pathsep}{ROOT}"},
    )


def require_clean(isa: str, size: str) -> None:
    result = run(isa, size)
    where = result.stdout.strip().rpartition("\n")[2]
    assert result.returncode == 0, f"status {result.returncode} in: {where}\n{result.stderr[-2000:]}"


@pytest.mark.slow
@pytest.mark.parametrize("isa", TIERS)
def test_every_kernel_stays_inside_its_buffers(isa: str) -> None:
    require_clean(isa, "short")


@pytest.mark.slow
@pytest.mark.parametrize("isa", TIERS)
def test_every_kernel_stays_inside_its_buffers_at_many_shapes(isa: str) -> None:
    """All tiers are one source; the last one is the quickest, and the scalar one takes minutes."""
    if isa != TIERS[-1]:
        skip_in_slice()
    require_clean(isa, "wide")


@pytest.mark.parametrize("fault", FAULTS)
def test_the_guard_notices_one_byte(fault: str) -> None:
    """Without this the two tests above could not fail."""
    result = run(TIERS[-1], fault)
    assert result.returncode == -signal.SIGSEGV, result.stdout + result.stderr
