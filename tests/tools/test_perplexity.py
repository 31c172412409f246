"""Perplexity by the peer's definition, and its figures on the shared models."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import engine.memory
from engine import EspalierError, ResourceError
from engine.loading import load_model
from kernels.cpu.ops import CpuOps
from kernels.ops import Ops
from kernels.process_limits import MemoryRoom
from kernels.quant_tensor import QuantTensor
from kernels.reference.formats import DENSE
from kernels.reference.linear import linear_exact
from support.tiny_models import write_tiny_llama
from tools.perplexity import cut, measure, negative_log_likelihoods, read_text, summarize

#: Every file in ../shared/models.
FILES = ["F16", "Q8_0-pure", "Q6_0-pure", "Q4_K-pure", "Q6_K-pure", "IQ2_K-pure", "IQ3_K-pure", "IQ4_K-pure",
         "IQ4_KS-pure", "IQ5_K-pure", "IQ6_K-pure", "IQ2_KS-pure", "IQ2_KL-pure", "IQ3_KS-pure", "IQ4_KSS-pure",
         "IQ5_KS-pure", "IQ1_KT", "IQ1_KT-pure", "IQ2_KT", "IQ2_KT-pure", "IQ3_KT", "IQ3_KT-pure", "IQ4_KT",
         "IQ4_KT-pure"]  # fmt: skip


def check_against_reference(shared: Path, ops: Ops, name: str) -> None:
    """0.25 % for F16 and KT: both sides compute with 8-bit activations. 1 % for the others, whose one-token
    products the peer rounds more coarsely."""
    file = f"stories-wide256-{name}.gguf"
    expected, _ = json.loads((shared / "models" / "reference.json").read_text())[file][
        "ppl_ctx256_stories_eval"
    ]
    loaded = load_model(shared / "models" / file, ops)
    got = measure(loaded, (shared / "text" / "stories_eval.txt").read_text(), 256)
    assert abs(got.ppl / expected - 1) < (0.0025 if "KT" in name or name == "F16" else 0.01), (got, expected)


#: Floats, a trellis beside what its quantizer mixes in, and tables: the rest is the same code over other types.
QUICK = ("F16", "IQ2_KT", "IQ3_KS-pure")


@pytest.mark.slow
@pytest.mark.parametrize("name", QUICK)
def test_perplexities_are_the_peers(shared: Path, cpu_ops: Ops, name: str) -> None:
    check_against_reference(shared, cpu_ops, name)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(FILES) - set(QUICK)))
def test_perplexities_of_every_other_file_are_the_peers(shared: Path, cpu_ops: Ops, name: str) -> None:
    check_against_reference(shared, cpu_ops, name)


class FloatOps(CpuOps):
    """Every matrix as the float32 weights it stands for: nothing rounds the activations."""

    def load_quant(
        self, type_name: str, shape: tuple[int, int], data: Any, uses: frozenset[str]
    ) -> QuantTensor:
        if type_name in DENSE or "linear" not in uses:
            return super().load_quant(type_name, shape, data, uses)
        every_column = np.eye(shape[1], dtype=np.float32)
        weights = linear_exact(every_column, type_name, np.frombuffer(data, np.uint8), shape[0]).T
        return super().load_quant("F32", shape, weights.astype(np.float32).tobytes(), uses)


@pytest.mark.slow
def test_two_planes_of_activations_give_the_perplexity_of_float_ones(shared: Path) -> None:
    """Measured: 0.0035 % off, where one plane is 0.15 %."""
    file = shared / "models" / "stories-wide256-IQ4_KT-pure.gguf"
    text = (shared / "text" / "stories_eval.txt").read_text()
    exact, one, two = (
        measure(load_model(file, ops), text, 256).ppl
        for ops in (FloatOps(threads=2), CpuOps(threads=2), CpuOps(threads=2, planes=2))
    )
    assert abs(two / exact - 1) < 1e-4
    assert abs(two - exact) < abs(one - exact) / 10


def test_losses_are_log_softmax() -> None:
    logits = np.array([[1.0, 2.0, 3.0], [1000.0, 0.0, 0.0]], np.float32)
    losses = negative_log_likelihoods(logits, np.array([0, 1]))
    exact = [math.log(math.e + math.e**2 + math.e**3) - 1, 1000.0]
    np.testing.assert_allclose(losses, exact, rtol=1e-12)


def test_the_standard_error_is_the_mean_losses_carried_over() -> None:
    losses = np.array([1.0, 2.0, 3.0, 4.0])
    result = summarize(losses, 2)
    assert result.ppl == pytest.approx(math.exp(2.5))
    assert result.stderr == pytest.approx(math.exp(2.5) * math.sqrt(1.25 / 3))
    assert result.tokens == 4


def test_windows_are_whole_and_begin_with_bos(tmp_path: Path, cpu_ops: Ops) -> None:
    loaded = load_model(write_tiny_llama(tmp_path / "m.gguf", n_ctx=64), cpu_ops)
    windows = cut(loaded, "the inn " * 100, 32)
    assert windows.shape[1] == 32
    assert (windows[:, 0] == loaded.tokenizer.bos_id).all()  # type: ignore[union-attr]
    for ctx_size in (3, 65):
        with pytest.raises(EspalierError, match="trained length"):
            cut(loaded, "the inn " * 100, ctx_size)
    with pytest.raises(EspalierError, match="one window needs"):
        cut(loaded, "the", 32)


def test_every_shared_model_is_measured(shared: Path) -> None:
    found = (shared / "models").glob("stories-wide256-*.gguf")
    assert {path.stem.removeprefix("stories-wide256-") for path in found} == set(FILES)


def test_a_cache_that_does_not_fit_is_refused(
    tmp_path: Path, cpu_ops: Ops, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = load_model(write_tiny_llama(tmp_path / "m.gguf", n_ctx=64), cpu_ops)
    room = MemoryRoom(1000, "/sys/fs/cgroup/memory.max", 1 << 20)
    monkeypatch.setattr(engine.memory, "available_memory", lambda: room)
    with pytest.raises(
        ResourceError, match=r"/sys/fs/cgroup/memory\.max is 1\.0 MiB, which leaves 1000 bytes"
    ):
        measure(loaded, "the inn " * 100, 32)


def test_a_text_is_read_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    for data in (b"one\r\ntwo\r", b"\xef\xbb\xbfone\n", b"a\x00b\x1a\x0c"):
        path.write_bytes(data)
        assert read_text(path).encode() == data


def test_line_ends_of_windows_are_tokens(shared: Path, cpu_ops: Ops, tmp_path: Path) -> None:
    """3223 is the peer's count."""
    path = tmp_path / "crlf.txt"
    path.write_bytes(
        (shared / "text" / "stories_eval.txt").read_bytes()[:6000].replace(b"\n", b"\r\n") + b"\r"
    )
    loaded = load_model(shared / "models" / "stories-wide256-IQ2_KT.gguf", cpu_ops)
    assert loaded.tokenizer is not None
    assert len(loaded.tokenizer.encode(read_text(path), add_special=True, parse_special=False)) == 3223


def test_a_text_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "bad.txt").write_bytes(b"good \xff bad")
    for name, words in (
        ("missing.txt", "missing.txt: cannot be read: No such file or directory"),
        (".", "cannot be read: Is a directory"),
        ("bad.txt", "bad.txt: cannot be read as UTF-8 text: wrong at byte 5"),
    ):
        with pytest.raises(EspalierError) as caught:
            read_text(tmp_path / name)
        assert str(caught.value).endswith(words)
