"""`make bench-kernels` at tiny sizes: a line for each case, the ceilings beside it, and an orderly end."""

import csv
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kernels.cpu import _native
from kernels.quant_tensor import TYPES
from support.server_process import ROOT
from tools.kernel_bench.cases import LinearCase, Selection, projections, quick, whole
from tools.kernel_bench.ceilings import Ceilings
from tools.kernel_bench.rows import Row, write_csv
from tools.kernel_bench.runner import WorkerError, measure
from tools.kernel_bench.worker import loops_of

COMMAND = [sys.executable, "-m", "tools.kernel_bench"]


def kernel_bench(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [*COMMAND, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.slow
def test_every_case_is_a_line_with_its_ceiling(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    tiers = {_native.isa_tiers()[-1]}  # a tier and a number of threads are a process of their own
    done = kernel_bench(
        "--types", "IQ2_KT,Q4_K,F16", "--shapes", "32x256", "--tiers", ",".join(tiers), "--batches",
        "1,3", "--threads", "1,2", "--caches", "cold,hot", "--models", "llama-0.85b", "--contexts", "40", "--seconds",
        "0", "--out", tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    with (tmp_path / "kernels.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == len(tiers) * (3 * 2 * 2 * 2 + 2 * 2 * 2)
    assert {line["tier"] for line in lines} == tiers
    for line in lines:
        assert float(line["us"]) > 0
        assert float(line["share"]) > 0
        macs = float(line["gmacs_per_core"]) * int(line["threads"]) * float(line["us"]) * 1e3
        if line["op"] == "linear":
            assert macs == pytest.approx(32 * 256 * int(line["batch"]), rel=1e-3)  # five digits a figure
        of_ceiling = float(line["share"]) * float(line["ceiling_gmacs_per_core"])
        assert of_ceiling == pytest.approx(float(line["gmacs_per_core"]), rel=1e-3)
    assert (tmp_path / "kernels.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.slow
def test_ctrl_c_keeps_what_was_measured(tmp_path: Path) -> None:
    command = [*COMMAND, "--types", "IQ2_KT", "--shapes", "32x256", "--seconds", "30", "--out", str(tmp_path)]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout is not None
        assert "6 cases" in process.stdout.readline()
        os.killpg(process.pid, signal.SIGINT)
        _, messages = process.communicate(timeout=30)
    assert process.returncode == 130
    assert messages.strip() == "stopped after 0 of 6 cases"
    assert (tmp_path / "kernels.csv").read_text().startswith("tier,op,type")


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("--types", "IQ9_KT"), "IQ9_KT"),
        (("--tiers", "neon"), "scalar"),
        (("--shapes", "10x100"), "multiple of 256"),
        (("--batches", "0"), "above zero"),
    ],
)
def test_what_cannot_be_measured_is_refused(arguments: tuple[str, ...], word: str) -> None:
    done = kernel_bench(*arguments)
    assert done.returncode == 2
    assert word in done.stderr


def test_a_tier_whose_process_ends_is_told() -> None:
    case = LinearCase("Q8_0", 16, 256, 1, 1, "hot")
    with pytest.raises(WorkerError, match="no-such-tier"):
        list(measure([("no-such-tier", case)], 0))


def test_the_whole_selection_has_every_type_on_every_tier() -> None:
    cases = [pair for selection in whole(("scalar", "avx2"), 2) for pair in selection.cases()]
    assert len(set(cases)) == len(cases)
    for batches in ({1}, {64, 512}):
        of_one_thread = {
            (tier, case.type_name)
            for tier, case in cases
            if isinstance(case, LinearCase) and case.threads == 1 and case.batch in batches
        }
        assert of_one_thread == {(tier, name) for tier in ("scalar", "avx2") for name in TYPES}
    assert len([pair for selection in quick(("avx2",), 2) for pair in selection.cases()]) < 50


def test_one_cpu_is_measured_once() -> None:
    cases = [pair for selection in whole(("avx2",), 1) for pair in selection.cases()]
    assert len(set(cases)) == len(cases)


def test_shapes_are_those_of_the_models() -> None:
    assert projections()["llama-3.1-8b.attn_k"] == (1024, 4096)
    assert projections()["llama-0.85b.ffn_down"] == (2048, 5632)


def test_attention_of_a_short_context_is_one_prompt() -> None:
    (decode, prefill) = Selection(
        ("avx2",), models=("llama-0.85b",), contexts=(40,), kv_types=("f16",)
    ).cases()
    assert (decode[1].batch, prefill[1].batch) == (1, 40)


def test_the_lower_ceiling_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """A weight of a trellis type that costs 1/50 ns to decode and half a byte from memory at 20 bytes a ns."""
    ceilings = Ceilings(1, "scalar", 0.0)
    monkeypatch.setattr(ceilings, "loop", {"trellis": 50.0, "dots": 400.0}.__getitem__)
    monkeypatch.setattr(ceilings, "_bytes", lambda size: 20.0)
    n = 10**6
    one = {name: n * count for name, count in loops_of("IQ4_KT", 1).items()}
    assert ceilings.lowest(one, n // 2, n, True) == ("memory", pytest.approx(40.0))
    assert ceilings.lowest(one, n // 4, n, True) == ("trellis", pytest.approx(50.0))
    eight = {name: n * count for name, count in loops_of("IQ4_KT", 8).items()}
    assert ceilings.lowest(eight, n // 2, 8 * n, False) == ("trellis+dots", pytest.approx(200.0))


@pytest.mark.parametrize("tier", _native.isa_tiers())
def test_every_tier_has_its_ceilings(tier: str) -> None:
    ceilings = _native.Ceilings(2, tier)
    for loop in ("trellis", "dots", "fmas"):
        ceilings.run(loop, 1 << 16)
    ceilings.read(np.ones(1000, np.uint8))
    for loop, n in (("jumps", 1), ("dots", -1)):
        with pytest.raises(ValueError, match="no ceiling named"):
            ceilings.run(loop, n)


def test_the_csv_has_a_column_for_each_figure(tmp_path: Path) -> None:
    row = Row("avx2", "linear", "Q8_0", 16, 256, 0, 1, 1, "hot", 1 / 3, 1.0, 2.0, 3.0, 4.0, 0.5, "dots")
    write_csv(tmp_path / "k.csv", [row])
    header, line = (tmp_path / "k.csv").read_text().splitlines()
    assert header.split(",") == list(Row._fields)
    assert line == "avx2,linear,Q8_0,16,256,0,1,1,hot,0.33333,1,2,3,4,0.5,dots"
