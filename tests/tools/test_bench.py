"""`espalier bench`: what it measures, the peer run beside it (a script stands in), and synthetic models as files."""

import json
from pathlib import Path

import numpy as np
import pytest

from engine import EspalierError, load_model, synthetic_model
from engine.loading import synthetic
from engine.loading.synthetic import SyntheticShape, dense_keys
from kernels.cpu.call_clock import clocked_calls
from kernels.cpu.ops import CpuOps
from kernels.ops import Ops
from kernels.recordings import Recordings
from support.published_models import read_published
from support.tiny_models import write_tiny_llama
from tools import bench, synthetic_file
from tools.bench import BenchOptions
from tools.model_runs import SequenceRuns
from tools.peer_bench import PeerBench, PeerTest, find_llama_bench
from tools.speed_tests import SpeedRuns, SpeedTest

TINY = SyntheticShape("llama", dense_keys(2, 256, 4, 2, 64, 512, 300, 128), "Q8_0")
#: Prints what the real one prints for the tests it is asked for, and keeps a line a run in runs.txt.
STAND_IN = """#!/usr/bin/env python3
import json, pathlib, sys
arguments = sys.argv[1:]
def value(name, default):
    return arguments[arguments.index(name) + 1] if name in arguments else default
pathlib.Path(__file__).with_name("runs.txt").open("a").write(" ".join(arguments) + "\\n")
assert pathlib.Path(value("-m", "")).read_bytes()[:4] == b"GGUF"
last = lambda name: [arguments[i + 1] for i, a in enumerate(arguments) if a == name][-1]
tests = [(int(last("-p")), 0), (0, int(last("-n"))), tuple(map(int, value("-gp", "0,0").split(",")))]
print(json.dumps([
    {"n_threads": int(value("-t", "0")), "n_prompt": p, "n_gen": g, "avg_ns": 1, "avg_ts": 1000.0 if g == 0 else 10.0,
     "samples_ts": [1.0]} for p, g in tests if p + g
]))
"""


def program(folder: Path, text: str) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "llama-bench"
    path.write_text(text)
    path.chmod(0o755)
    return path


def options(**changed: object) -> BenchOptions:
    asked: dict[str, object] = {
        "model": None, "synthetic": None, "n_prompt": 8, "n_gen": 3, "depth": 0, "repetitions": 2, "kv_type": "f16",
        "device": "cpu", "threads": 1, "activations": 1, "peer": None, "json": True,
    }  # fmt: skip
    return BenchOptions(**(asked | changed))  # type: ignore[arg-type]


@pytest.fixture
def tiny_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(synthetic.SHAPES, "tiny", TINY)


def printed_results(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return json.loads(capsys.readouterr().out.splitlines()[-1])["results"]


def test_each_test_has_a_median_and_a_deviation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bench.run(options(model=write_tiny_llama(tmp_path / "m.gguf")))
    results = printed_results(capsys)
    assert [r["test"] for r in results] == ["pp8", "tg3"]
    assert all(set(r) == {"test", "tokens_per_second", "stddev"} for r in results)


def test_the_median_is_what_is_printed() -> None:
    speeds = bench.Speeds(SpeedTest("tg", 4, 0), [1.0, 50.0, 2.0], [4.0, 4.0, 1.0])
    figures = speeds.as_json()
    assert (figures["tokens_per_second"], figures["peer_tokens_per_second"], figures["ratio"]) == (
        2.0,
        4.0,
        0.5,
    )


def test_a_step_is_told_by_its_calls(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every call of a step has its time, and what is left of the step is Python's."""
    bench.run(options(model=write_tiny_llama(tmp_path / "m.gguf"), n_prompt=0, repetitions=1, depth=5))
    output = capsys.readouterr().out
    step = json.loads(output.splitlines()[-1])["decode_step"]
    calls = {call["call"]: call["us"] for call in step["calls"]}
    assert {"linear", "attention"} <= set(calls)
    assert all(us > 0 for us in calls.values())
    assert 0 < step["python_us"] < step["step_us"]
    assert step["depth"] == 5
    assert "Python around them" in output


def test_several_sequences_at_once_are_timed_greedy_and_sampled(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.run(options(model=write_tiny_llama(tmp_path / "m.gguf"), n_prompt=0, repetitions=1, batch=3))
    output = capsys.readouterr().out
    batch = json.loads(output.splitlines()[-1])["batch"]
    assert (batch["sequences"], batch["tokens"]) == (3, 3)
    greedy, sampled = batch["greedy_tokens_per_second"], batch["sampled_tokens_per_second"]
    assert batch["sampling_cost"] == pytest.approx(greedy / sampled - 1, abs=0.01)  # both are rounded
    assert "default sampling" in output


def test_a_batch_that_generates_nothing_is_refused() -> None:
    with pytest.raises(EspalierError, match="--batch is the sequences that generate at once"):
        options(synthetic=("llama-0.85b", "IQ2_KT"), n_gen=0, batch=8)


def test_a_clock_leaves_the_backend_as_it_was(cpu_ops: CpuOps) -> None:
    native, x = cpu_ops._native, np.ones((1, 4), np.float32)
    recordings = Recordings()
    run = lambda: cpu_ops.recorded(recordings, "two", lambda: cpu_ops.add(cpu_ops.add(x, x), x))  # noqa: E731
    run()
    with clocked_calls(cpu_ops) as clock:
        assert (run() == 3).all()
    assert cpu_ops._native is native
    assert clock.calls == {"add": 2}
    assert clock.seconds["add"] > 0


def test_a_context_is_filled_before_the_test(tmp_path: Path, cpu_ops: Ops) -> None:
    """The last step's logits are those of one pass over the context and the test's tokens."""
    loaded = load_model(write_tiny_llama(tmp_path / "m.gguf"), cpu_ops)
    runs = SpeedRuns(loaded, 3, 20, "f16")
    runs.fill_context()
    assert runs.tokens_per_second(SpeedTest("tg", 3, 20)) > 0
    tokens = [*runs._context, *runs._token_ids]
    expected = SequenceRuns(loaded, 1, 23).run([tokens], 0, 1).copy()
    np.testing.assert_array_equal(runs._runs.run([tokens[-1:]], 22, 1), expected)


def test_the_peer_runs_in_turns_on_the_same_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = write_tiny_llama(tmp_path / "m.gguf")
    program(tmp_path / "bin", STAND_IN)  # the build folder is the one above bin
    bench.run(options(model=model, peer=tmp_path, repetitions=3))
    results = printed_results(capsys)
    assert [r["peer_tokens_per_second"] for r in results] == [1000.0, 10.0]
    for result in results:
        ours, peers = result["tokens_per_second"], result["peer_tokens_per_second"]
        assert result["ratio"] == pytest.approx(ours / peers, rel=0.01, abs=0.001)  # type: ignore[operator]
    runs = (tmp_path / "bin" / "runs.txt").read_text().splitlines()
    assert len(runs) == 6
    assert all(str(model) in run and "-t 1 " in run for run in runs)


def test_who_goes_first_changes_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []

    def ours(_: SpeedRuns, test: SpeedTest) -> float:
        order.append("ours")
        return 1.0

    def peers(_: PeerBench, test: PeerTest) -> float:
        order.append("the peer")
        return 1.0

    monkeypatch.setattr(SpeedRuns, "tokens_per_second", ours)
    monkeypatch.setattr(PeerBench, "run", peers)
    program(tmp_path / "peer", STAND_IN)
    model = write_tiny_llama(tmp_path / "m.gguf")
    bench.run(options(model=model, peer=tmp_path / "peer", n_prompt=0, repetitions=3))
    assert order == ["ours", "the peer", "the peer", "ours", "ours", "the peer"]


def test_after_a_context_the_peer_generates_and_has_no_prompt_test(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program(tmp_path / "peer", STAND_IN)
    model = write_tiny_llama(tmp_path / "m.gguf")
    bench.run(options(model=model, peer=tmp_path / "peer", depth=40, repetitions=1, kv_type="q8_0"))
    prompt, generation = printed_results(capsys)
    assert (prompt["test"], generation["test"]) == ("pp8@40", "tg3@40")
    assert "ratio" not in prompt
    assert generation["peer_tokens_per_second"] == 10.0
    (run,) = (tmp_path / "peer" / "runs.txt").read_text().splitlines()
    assert "-gp 40,3" in run
    assert "-ctk q8_0 -ctv q8_0" in run


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("#!/bin/sh\necho loading >&2; echo 'error: failed to load model' >&2; exit 1\n",
         ["ended with status 1", "error: failed to load model"]),
        ("#!/bin/sh\nkill -ILL $$\n", ["ended by SIGILL", "said nothing"]),
        ("#!/bin/sh\necho 'usage: something else'\n", ["no results that can be read", "usage: something else"]),
        ("#!/bin/sh\necho '[]'\n", ["no speed for -n 3"]),
        ("#!/bin/sh\necho '[{\"n_prompt\": 0, \"n_gen\": 3, \"avg_ts\": 0}]'\n", ["no speed for -n 3"]),
        ("#!/no/such/shell\n", ["cannot be started"]),
        ("#!/bin/sh\nprintf 'red \\033[31m' >&2; exit 3\n", ["ended with status 3: red ?[31m"]),
    ],
)  # fmt: skip
def test_what_goes_wrong_with_the_peer_is_one_line(tmp_path: Path, text: str, words: list[str]) -> None:
    peer = PeerBench(program(tmp_path / "peer", text), tmp_path / "m.gguf", ["-t", "1"])
    with pytest.raises(EspalierError) as raised:
        peer.run(PeerTest(0, 3))
    assert "\n" not in str(raised.value)
    for word in words:
        assert word in str(raised.value)


def test_a_peer_that_hangs_is_stopped(tmp_path: Path) -> None:
    path = program(tmp_path / "peer", "#!/bin/sh\nexec sleep 60\n")
    with pytest.raises(EspalierError, match=r"within 0\.2 seconds"):
        PeerBench(path, tmp_path / "m.gguf", [], timeout_s=0.2).run(PeerTest(0, 3))


def test_a_folder_without_llama_bench_is_refused(tmp_path: Path) -> None:
    (tmp_path / "llama-bench").write_text("not executable")
    with pytest.raises(EspalierError, match="no llama-bench that can be run"):
        find_llama_bench(tmp_path)


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({}, "either MODEL.gguf or --synthetic"),
        ({"model": Path("m.gguf"), "n_prompt": 0, "n_gen": 0}, "above zero"),
        ({"model": Path("m.gguf"), "depth": -1}, "--depth is -1"),
        ({"model": Path("m.gguf"), "kv_type": "q4_0"}, "q8_0"),
        ({"model": Path("m.gguf"), "peer": Path("x"), "device": "reference"}, "--peer"),
    ],
)
def test_what_cannot_be_measured_is_refused(changed: dict[str, object], word: str) -> None:
    with pytest.raises(EspalierError, match=word):
        options(**changed)


def test_more_tokens_than_the_context_holds_are_refused(tmp_path: Path) -> None:
    model = write_tiny_llama(tmp_path / "m.gguf", n_ctx=64)
    with pytest.raises(EspalierError, match="65 tokens do not fit"):
        bench.run(options(model=model, depth=57))


@pytest.mark.parametrize("type_name", ["IQ2_KT", "IQ4_KT", "Q4_K", "F16"])
def test_a_synthetic_file_is_the_synthetic_model(
    tmp_path: Path, cpu_ops: Ops, tiny_shape: None, type_name: str
) -> None:
    """Weight for weight, so their logits are the same bits."""
    path = synthetic_file.write_synthetic(tmp_path / "m.gguf", "tiny", type_name)
    from_file, in_memory = load_model(path, cpu_ops), synthetic_model("tiny", type_name, cpu_ops)
    tokens = list(range(3, 20))
    expected = SequenceRuns(in_memory, 1, 32).run([tokens], 0, 1).copy()
    np.testing.assert_array_equal(SequenceRuns(from_file, 1, 32).run([tokens], 0, 1), expected)
    assert np.isfinite(expected).all()
    assert from_file.weight_bytes == in_memory.weight_bytes


def test_a_synthetic_file_encodes_any_text(tmp_path: Path, cpu_ops: Ops, tiny_shape: None) -> None:
    path = synthetic_file.write_synthetic(tmp_path / "m.gguf", "tiny", "Q8_0")
    tokenizer = load_model(path, cpu_ops).tokenizer
    assert tokenizer is not None
    text = "Any text, token270 even: é本😁"
    token_ids = tokenizer.encode(text, add_special=False, parse_special=False)
    assert tokenizer.decode(token_ids).strip() == text


def test_a_file_that_is_there_is_not_written_over(tmp_path: Path, tiny_shape: None) -> None:
    path = tmp_path / "precious.gguf"
    path.write_bytes(b"precious")
    with pytest.raises(EspalierError, match="is there already"):
        synthetic_file.write_synthetic(path, "tiny", "IQ2_KT")
    assert path.read_bytes() == b"precious"


def test_a_write_that_fails_leaves_nothing(
    tmp_path: Path, tiny_shape: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(done: int, in_all: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        synthetic_file.write_synthetic(tmp_path / "m.gguf", "tiny", "IQ2_KT", interrupted)
    with pytest.raises(EspalierError, match="cannot be written"):
        synthetic_file.write_synthetic(tmp_path / "no-folder" / "m.gguf", "tiny", "IQ2_KT")
    usage = synthetic_file.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(synthetic_file.shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(EspalierError, match="its disk has"):
        synthetic_file.write_synthetic(tmp_path / "m.gguf", "tiny", "IQ2_KT")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("name", "word"), [("IQ4_KT_V1", "does not tell"), ("IQ9_KT", "no type named")])
def test_types_that_a_file_cannot_name_are_refused(
    tmp_path: Path, tiny_shape: None, name: str, word: str
) -> None:
    with pytest.raises(EspalierError, match=word):
        synthetic_file.write_synthetic(tmp_path / "m.gguf", "tiny", name)


def test_a_synthetic_model_is_a_file_while_the_peer_needs_it(
    tmp_path: Path, tiny_shape: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench.tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    program(tmp_path / "peer", STAND_IN)
    bench.run(options(synthetic=("tiny", "IQ2_KT"), peer=tmp_path / "peer", repetitions=1))
    assert all("ratio" in result for result in printed_results(capsys))
    assert not list((tmp_path / "temporary").iterdir())


def test_write_measures_nothing(tmp_path: Path, tiny_shape: None, capsys: pytest.CaptureFixture[str]) -> None:
    bench.write(options(synthetic=("tiny", "IQ2_KT")), tmp_path / "m.gguf")
    assert "MiB" in capsys.readouterr().out
    for refused in (options(model=Path("m.gguf")), options(synthetic=("tiny", "IQ2_KT"), peer=tmp_path)):
        with pytest.raises(EspalierError, match="--write makes a file"):
            bench.write(refused, tmp_path / "n.gguf")


@pytest.mark.parametrize(
    ("shape", "published"),
    [
        ("qwen3-30b-a3b", "Qwen3-30B-A3B"),
        ("qwen3.5-35b-a3b", "Qwen3.5-35B-A3B"),
        ("glm-4.7-flash", "GLM-4.7-Flash"),
    ],
)
def test_a_synthetic_shape_is_that_of_the_published_model(shape: str, published: str) -> None:
    """By its keys, as far as the published file has them."""
    model, keys = read_published(published), synthetic.SHAPES[shape].keys
    assert {name: model.key(name) for name in keys if model.key(name) is not None} == {
        name: value for name, value in keys.items() if model.key(name) is not None
    }
    assert keys["vocab_size"] == model.n_tokens
