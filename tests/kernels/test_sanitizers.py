"""The CPU kernels and their bindings under AddressSanitizer and UndefinedBehaviorSanitizer: no report.

A second build of the native module, in build/sanitized. The tests run in processes of their own, since the
sanitizers' library must be there before the interpreter is.
"""

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kernels.cpu import _native

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "build" / "sanitized"
TOOLS = Path(sys.executable).parent  # cmake and ninja of the `dev` extra
TESTS = (
    "test_cpu_ops.py",
    "test_cpu_linear.py",
    "test_cpu_planes.py",
    "test_cpu_attention.py",
    "test_expert_ops.py",
    "test_cpu_recorded.py",
    "test_choice.py",
    "test_thread_pool.py",
    "test_finite.py",
    "../engine/test_native_text.py",
)
#: Adds two arrays where the second is a float too short, or starts at an odd address.
FAULT = """
import support.sanitized_native
import numpy as np
from kernels.cpu import _native
x = np.zeros(5000, np.float32)
short = np.lib.stride_tricks.as_strided(np.zeros(4999, np.float32), (5000,))
odd = np.frombuffer(bytearray(20001), np.float32, offset=1, count=5000)
_native.Backend(1, "scalar").add(x, {}, np.empty_like(x))
"""
SWEEP = """
import runpy, sys
import support.sanitized_native
sys.argv = ["guarded_sweep", "{}", "short"]
runpy.run_module("support.guarded_sweep", run_name="__main__")
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("g++") is None, reason="the sanitizers are g++'s here"),
]


def library(name: str) -> str:
    return subprocess.check_output(["g++", f"-print-file-name={name}"], text=True).strip()


@pytest.fixture(scope="module")
def sanitized() -> dict[str, str]:
    """The environment in which the interpreter takes the sanitized module."""
    BUILD.mkdir(parents=True, exist_ok=True)
    with (BUILD / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two workers of pytest-xdist build it once
        _build()
    return os.environ | {
        "ESPALIER_NATIVE": str(next(BUILD.glob("_native*.so"))),
        "LD_PRELOAD": f"{library('libasan.so')} {library('libstdc++.so.6')}",
        "ASAN_OPTIONS": "detect_leaks=0",  # the interpreter's own at its end
        "PYTHONPATH": f"{ROOT / 'tests'}{os.pathsep}{ROOT}",
    }


def _build() -> None:
    options = {
        "CMAKE_BUILD_TYPE": "Release",
        "CMAKE_MAKE_PROGRAM": str(TOOLS / "ninja"),
        "Python_EXECUTABLE": sys.executable,
        "ESPALIER_SANITIZE": "ON",
    }
    arguments = [f"-D{name}={value}" for name, value in options.items()]
    for command in (["-S", str(ROOT), "-B", str(BUILD), "-G", "Ninja", *arguments], ["--build", str(BUILD)]):
        result = subprocess.run(
            [TOOLS / "cmake", *command],
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"CXX": "g++"},
        )
        assert result.returncode == 0, (result.stdout + result.stderr)[-3000:]


def run(environment: dict[str, str], *arguments: str) -> tuple[int, str]:
    """Exit status and output of the interpreter."""
    result = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=False, env=environment, cwd=ROOT
    )
    return result.returncode, result.stdout + result.stderr


def require_clean(status: int, output: str) -> None:
    for report in ("ERROR: AddressSanitizer", "runtime error:"):
        assert report not in output, output[output.index(report) :][:3000]
    assert status == 0, output[-3000:]


@pytest.mark.parametrize("name", TESTS)
def test_the_kernels_tests_without_a_report(sanitized: dict[str, str], name: str) -> None:
    """Those of the other backends are not run: `-k`."""
    command = ("-m", "pytest", "-p", "no:cacheprovider", "-p", "support.sanitized_native")
    chosen = ("-k", "not cuda and not reference-", str(ROOT / "tests" / "kernels" / name))
    require_clean(*run(sanitized, *command, *chosen))


@pytest.mark.parametrize("isa", _native.isa_tiers())
def test_every_kernel_at_ragged_shapes_without_a_report(sanitized: dict[str, str], isa: str) -> None:
    require_clean(*run(sanitized, "-c", SWEEP.format(isa)))


@pytest.mark.parametrize(
    ("argument", "report"), [("short", "heap-buffer-overflow"), ("odd", "load of misaligned address")]
)
def test_the_sanitizers_notice(sanitized: dict[str, str], argument: str, report: str) -> None:
    """Without this the two tests above could not fail."""
    status, output = run(sanitized, "-c", FAULT.format(argument))
    assert status != 0
    assert report in output
