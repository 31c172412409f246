"""`python -m tools.choice_bench` at a tiny size. It fails where a tier chooses another token than the judge."""

import subprocess
import sys

from kernels.cpu import _native
from support.server_process import ROOT
from tools.choice_bench import SAMPLERS


def test_every_sampler_is_a_line_with_a_figure_for_each_tier() -> None:
    command = [sys.executable, "-m", "tools.choice_bench", "--n-vocab", "300", "--calls", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    lines = [[cell.strip() for cell in line.split("│")] for line in done.stdout.splitlines() if "│" in line]
    assert [line[1] for line in lines] == list(SAMPLERS)
    for line in lines:
        assert all(float(figure) >= 0 for figure in line[2:-1])
        assert len(line[2:-1]) == len(_native.isa_tiers()) + 1
