"""The benches for a card run end to end on the emulated one, count launches and bytes, and show no time of it."""

import csv
import importlib.util
import json
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from engine.loading import synthetic
from engine.loading.synthetic import SyntheticShape, dense_keys
from kernels.cuda.device import Device, Launch
from kernels.cuda.linear_forms import ALL_FORMS
from kernels.quant_tensor import TYPES
from support.cuda_device import ON_CARD, cuda_device, generator
from support.fake_cupy import Machine
from tools import bench, cuda_bench
from tools.bench import BenchOptions
from tools.cuda_timing import Timer

pytestmark = pytest.mark.skipif(ON_CARD, reason="what it shows of a card, gpu-check runs itself")

TINY = SyntheticShape("llama", dense_keys(2, 256, 4, 2, 64, 512, 300, 128), "Q8_0")


@pytest.fixture(autouse=True)
def device() -> Iterator[None]:
    with cuda_device(Machine()):
        yield


@pytest.mark.slow
def test_a_model_s_bench_lists_the_kernels_of_a_step_without_their_times(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(synthetic.SHAPES, "tiny", TINY)
    monkeypatch.setenv("COLUMNS", "160")
    bench.run(BenchOptions(None, ("tiny", "IQ2_KT"), 4, 2, 3, 2, "f16", "cuda", None, 1, None, True))
    *lines, last = capsys.readouterr().out.splitlines()
    figures = json.loads(last)
    assert {result["tokens_per_second"] for result in figures["results"]} == {None}
    step = figures["decode_step"]
    assert (step["step_us"], step["memory_floor_us"], step["read_gb_per_second"]) == (None, None, None)
    kernels = {kernel["kernel"]: kernel for kernel in step["kernels"]}
    assert kernels["linear_plain Q8_0 300x256"]["launches"] == 1
    # Two layers of 512 x 256 weights at 2.125 bits, with d, activations and results: nothing is left out or twice.
    (down,) = (kernel for name, kernel in kernels.items() if name.endswith("IQ2_KT 256x512"))
    assert down["launches"] == 2
    row_bytes = TYPES["IQ2_KT"].row_bytes(512)
    assert down["bytes"] == 2 * (256 * row_bytes + 512 + 8 * 16 + 4 * 256)
    assert all(kernel["us"] is None for kernel in kernels.values())
    assert not {"add", "silu_mul"} & set(kernels), "both are done where products are stored"
    shown = "\n".join(lines)
    assert "us each" in shown
    assert shown.count("emulated") > len(kernels)


@pytest.mark.slow
def test_every_form_is_timed_cold_and_hot_for_the_tokens_it_takes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [
        "--types",
        "IQ2_KT,Q4_K",
        "--matrices",
        "40x512",
        "--tokens",
        "1,2,9",
        "--out",
        str(tmp_path),
    ]
    assert cuda_bench.main(arguments) == 0
    with (tmp_path / "kernels.csv").open() as file:
        rows = list(csv.DictReader(file))
    expected = {
        (type_name, form.kernel, n_tokens, cache)
        for type_name, layout in (("IQ2_KT", "tiles"), ("Q4_K", "rows"))
        for form in ALL_FORMS[layout]
        for n_tokens in (1, 2, 9)
        if form.max_tokens is None or n_tokens <= form.max_tokens
        for cache in ("cold", "hot")
    }
    assert {(row["type"], row["kernel"], int(row["n_tokens"]), row["cache"]) for row in rows} == expected
    assert len(rows) == len(expected)
    assert {row["us"] for row in rows} == {row["gb_per_second"] for row in rows} == {"emulated"}
    assert sum(int(row["chosen"]) for row in rows) == 2 * 2 * 3
    out = capsys.readouterr().out
    assert "IQ2_KT 40x512, 9 tokens: linear_matmul emulated us" in out
    if importlib.util.find_spec("matplotlib"):
        assert (tmp_path / "kernels.svg").read_text().startswith("<?xml")
    else:  # as on the bare machine where gpu-check runs
        assert f"--plot {tmp_path / 'kernels.csv'}" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["--types", "IQ9_KT"], "no type IQ9_KT; there are"), (["--plot", "/nowhere.csv"], "No such file")],
)
def test_what_cannot_be_timed_or_drawn_is_one_line(
    capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    assert cuda_bench.main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line


@pytest.mark.parametrize("n_words", [4, 3000])
def test_the_reading_kernel_reads_every_word(n_words: int) -> None:
    device = Device()
    words = generator("read", n_words).integers(0, 1 << 32, n_words, dtype=np.uint32)
    source, results = device.allocate(words.nbytes), np.zeros(2 * 256, np.uint32)
    target = device.allocate(results.nbytes)
    device.upload(source.pointer, words)
    arguments = (np.uint64(source.pointer), np.int64(n_words // 4), np.uint64(target.pointer))
    launch = Launch("bandwidth", "read_stream", (2,), 256, arguments)
    device.launch(*launch)
    device.download(results, target.pointer)
    device.synchronize()
    assert np.bitwise_xor.reduce(results) == np.bitwise_xor.reduce(words)
    assert math.isnan(Timer(device).us([launch]))
