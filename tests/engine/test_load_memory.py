"""What loading takes: never the file twice, little more than the weights afterwards, and reports on the way."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import engine.memory
from engine import ResourceError, load_model
from kernels.cpu.ops import CpuOps
from kernels.process_limits import MemoryRoom
from support.tiny_models import write_tiny_llama

ROOT = Path(__file__).parents[2]
MIB = 1 << 20
#: Beside the weights: the vocabulary as objects, the largest matrix while it is packed, what the heap keeps.
LOADING_MIB = 16


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """79 MB, 86 matrices of nine types."""
    path = tmp_path_factory.mktemp("model") / "model.gguf"
    return write_tiny_llama(path, n_layer=12, n_embd=1024, n_head=16, n_head_kv=4, n_ff=4096, n_ctx=2048)


@pytest.fixture(scope="module")
def memory(model: Path) -> dict[str, int]:
    """As support/load_memory.py measures it, in a process that has done nothing else."""
    result = subprocess.run(
        [sys.executable, "-m", "support.load_memory", str(model), "600"],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": f"{ROOT / 'tests'}{os.pathsep}{ROOT}"},
    )
    assert result.returncode == 0, result.stderr
    numbers: dict[str, int] = json.loads(result.stdout)
    return numbers


@pytest.mark.slow
def test_the_peak_is_the_file_and_a_tenth(model: Path, memory: dict[str, int]) -> None:
    """A second copy of the weights, or of what was read, would be 79 MB more."""
    limit = 1.1 * model.stat().st_size + LOADING_MIB * MIB
    assert memory["peak_of_load"] - memory["before"] <= limit, memory


def test_what_stays_is_the_weights(memory: dict[str, int]) -> None:
    """Pages of the file, and huge pages that reach past a matrix, would show here."""
    assert memory["after_load"] - memory["before"] <= memory["weights"] + LOADING_MIB * MIB, memory


def test_a_process_that_answers_holds_weights_cache_and_150_mb(memory: dict[str, int]) -> None:
    """Interpreter, libraries, vocabulary and the activations of a 512-token pass among the 150."""
    assert memory["after_answer"] <= memory["weights"] + memory["kv"] + 150 * MIB, memory


def test_the_measurement_sees_the_weights(memory: dict[str, int]) -> None:
    """Else the three limits above would hold of a process that loaded nothing."""
    assert memory["after_load"] - memory["before"] > 0.9 * memory["weights"], memory
    assert memory["weights"] > 50 * MIB


def test_progress_is_told_up_to_the_last_byte(model: Path) -> None:
    reports: list[tuple[int, int]] = []
    loaded = load_model(model, CpuOps(threads=2), progress=lambda *report: reports.append(report))
    done = [report[0] for report in reports]
    assert done == sorted(done)
    assert len(set(done)) > 80
    assert {report[1] for report in reports} == {loaded.file_bytes}
    assert done[-1] == loaded.file_bytes


def test_weights_beyond_a_limit_are_refused_before_they_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading them would end in a SIGKILL, which says nothing."""
    model = write_tiny_llama(tmp_path / "m.gguf")
    room = MemoryRoom(1000, "/sys/fs/cgroup/memory.max", 64 * MIB)
    monkeypatch.setattr(engine.memory, "available_memory", lambda: room)
    seen: list[int] = []
    with pytest.raises(ResourceError) as caught:
        load_model(model, CpuOps(threads=1), progress=lambda done, total: seen.append(done))
    assert "/sys/fs/cgroup/memory.max is 64.0 MiB, which leaves 1000 bytes free: take a smaller" in str(
        caught.value
    )
    assert str(caught.value).endswith("quantization, or raise that limit")
    assert not seen
