"""Damaged model files of every type: each is refused in one line or runs, and none ends or holds the process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kernels.quant_tensor import TYPES_BY_GGML_ID
from support.random_models import SHAPES, draw, write
from support.shared_data import shared_folder
from support.tiny_models import write_tiny_llama
from support.vocabularies import bpe_metadata

N_MUTANTS = 300
N_SLOW_PARTS, N_SLOW = 10, 1000  # ten thousand


@pytest.fixture(scope="session")
def right_files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """One tiny model of each type, architecture and kind of vocabulary, and the real ones where they are."""
    folder = tmp_path_factory.mktemp("right")
    own = [
        write_tiny_llama(folder / f"{t.name}.gguf", n_layer=1, n_ff=256, types={"*": t.name})
        for t in TYPES_BY_GGML_ID.values()
    ]
    for name in ("llama, rope_freqs (Llama 3.1)", "qwen2, tied, yarn", "qwen3, linear"):
        own.append(write(folder / f"{len(own)}.gguf", SHAPES[name], draw(SHAPES[name])))
    own.append(write_tiny_llama(folder / "bpe.gguf", n_layer=1, vocabulary=bpe_metadata()))
    return own + sorted((shared_folder() / "models").glob("*_KT.gguf"))


def check_mutants(files: list[Path], seeds: range) -> None:
    command = [sys.executable, "-m", "support.mutants", str(seeds.start), str(seeds.stop), *map(str, files)]
    tests = Path(__file__).resolve().parents[1]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join((str(tests), str(tests.parent)))}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    lines = done.stdout.splitlines()
    assert done.returncode == 0, f"{lines[-1:]} {done.stderr[-3000:]}"
    outcomes = [line.split(" ", 1)[1].strip("'\"") for line in lines]
    assert len(outcomes) == len(seeds)
    n_ran = sum(not outcome.startswith("refused") for outcome in outcomes)
    # Most damage is in the index and must be noticed; some changes a weight or a text only, and the model runs.
    assert len(seeds) // 20 < n_ran < len(seeds) // 2


def test_mutants_are_refused_or_run(right_files: list[Path]) -> None:
    check_mutants(right_files, range(N_MUTANTS))


@pytest.mark.slow
@pytest.mark.parametrize("part", range(N_SLOW_PARTS))
def test_many_more_mutants(right_files: list[Path], part: int) -> None:
    first = N_MUTANTS + part * N_SLOW
    check_mutants(right_files, range(first, first + N_SLOW))
