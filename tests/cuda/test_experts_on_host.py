"""Experts that lie beside the CPU while the rest of the model is on the (emulated) GPU."""

from pathlib import Path

import pytest

from engine import Engine, EspalierError, ResourceError
from engine.loading import load_model
from engine.loading.gguf_file import GGUFFile
from engine.loading.placement import place
from kernels.cuda.ops import CudaOps
from kernels.ops import Ops
from support.architectures import MODELS
from support.architectures.random_file import draw_tensors, write_file
from support.tiny_models import write_tiny_llama
from support.transcripts import config_of, transcripts

#: Two models with experts in every layer, and one whose first layer is dense and whose experts are shared too.
NAMES = [
    pytest.param("qwen3moe in KT types", marks=pytest.mark.slow),
    pytest.param("qwen3moe, gate and up in one", marks=pytest.mark.slow),
    "glm4moe",
]


@pytest.fixture
def glm(tmp_path: Path) -> Path:
    return write_file(tmp_path / "m.gguf", MODELS["glm4moe"], draw_tensors(MODELS["glm4moe"]))


@pytest.mark.parametrize("name", NAMES)
def test_requests_are_answered_as_on_the_cpu_alone(
    tmp_path: Path, cpu_ops: Ops, cuda_ops: Ops, name: str
) -> None:
    """Prompts in pieces, then decode steps recorded as several graphs and replayed: every bit is the same."""
    path = write_file(tmp_path / "m.gguf", MODELS[name], draw_tensors(MODELS[name]))
    alone = load_model(path, cpu_ops)
    beside = load_model(path, cuda_ops, experts="cpu")
    assert any("lie in the host's memory" in note for note in beside.notes)
    answers = [
        transcripts(Engine(loaded, config_of(loaded, step_tokens=24)), (1, 3), n_answer=5)
        for loaded in (alone, beside)
    ]
    assert answers[1] == answers[0]


def expert_bytes(gguf: GGUFFile, layer: int) -> int:
    names = [name for name in gguf.tensors if name.startswith(f"blk.{layer}.ffn") and "_exps" in name]
    return sum(gguf.tensors[name].nbytes for name in names)


@pytest.mark.parametrize("layers", [[], [2], [1, 2]], ids=["all fits", "one layer too many", "two"])
def test_auto_leaves_experts_of_the_last_layers_to_the_host_where_the_device_is_too_small(
    glm: Path, cpu_ops: Ops, cuda_ops: Ops, monkeypatch: pytest.MonkeyPatch, layers: list[int]
) -> None:
    """Layer 0 is dense. An eighth of the device is left to caches; routers are small."""
    with GGUFFile.open(glm) as gguf:
        on_device = sum(tensor.nbytes for tensor in gguf.tensors.values())
        on_device -= sum(expert_bytes(gguf, layer) for layer in layers)
        monkeypatch.setattr(CudaOps, "free_bytes", lambda self: int(on_device * 8 / 7) + 1000)
        placement = place(gguf, cuda_ops, "auto", (), lambda: cpu_ops)
    assert sorted(placement.host_layers) == layers
    for layer in (1, 2):
        expected = cpu_ops if layer in layers else cuda_ops
        for name in ("ffn_gate_inp.weight", "exp_probs_b.bias", "ffn_up_exps.weight"):
            assert placement.ops_of(f"blk.{layer}.{name}") is expected
        assert placement.ops_of(f"blk.{layer}.ffn_up_shexp.weight") is cuda_ops


def test_a_device_too_small_for_the_rest_is_one_line(
    glm: Path, cpu_ops: Ops, cuda_ops: Ops, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CudaOps, "free_bytes", lambda self: 100 << 10)
    with GGUFFile.open(glm) as gguf, pytest.raises(ResourceError) as caught:
        place(gguf, cuda_ops, "cpu", (), lambda: cpu_ops)
    assert "its weights take" in str(caught.value)
    assert "the device has 100.0 KiB free" in str(caught.value)


@pytest.mark.parametrize(
    ("experts", "message"),
    [
        ("gpu", "--experts is 'gpu'; it is auto, cpu, cuda, or cpu:FIRST-LAST"),
        ("cpu:90-99", "--experts cpu:90-99: the model has no experts in those layers"),
    ],
)
def test_experts_that_cannot_lie_there_are_refused_in_one_line(
    glm: Path, cuda_ops: Ops, experts: str, message: str
) -> None:
    with pytest.raises(EspalierError) as caught:
        load_model(glm, cuda_ops, experts=experts)
    assert str(caught.value).startswith(message)


def test_a_dense_model_has_no_experts_to_place(tmp_path: Path, cpu_ops: Ops, cuda_ops: Ops) -> None:
    path = write_tiny_llama(tmp_path / "m.gguf", n_layer=1)
    with pytest.raises(EspalierError, match="--experts cpu: the model has no experts"):
        load_model(path, cuda_ops, experts="cpu")
    assert load_model(path, cpu_ops, experts="cpu").config.n_layer == 1, "all of it is on the CPU already"
    with pytest.raises(EspalierError, match="--experts cuda needs --device cuda"):
        load_model(path, cpu_ops, experts="cuda")
