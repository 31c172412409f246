"""`espalier inspect` shows what a file holds, whole, at 80 columns, and lets no file speak to the terminal."""

from pathlib import Path
from typing import Any

import pytest

from engine import EspalierError
from kernels.quant_tensor import TYPES
from support.architectures.latent import glm_dsa
from support.architectures.random_file import draw_tensors, write_file
from support.gguf_writer import Tensor, write_gguf
from support.tiny_models import CHAT_TEMPLATE, MIXED_TYPES, write_tiny_llama
from support.vocabularies import CONTROL, pieces_with, spm_metadata
from tools.inspect import run


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    monkeypatch.setenv("COLUMNS", "80")

    def shown(path: Path, ctx_size: int | None = None, kv_type: str = "f16") -> list[str]:
        run(path, ctx_size, kv_type)
        return capsys.readouterr().out.splitlines()

    return shown


def cells(lines: list[str], first: str) -> list[str]:
    """What stands behind `first` in the line that begins with it."""
    (line,) = (line for line in lines if line.split()[:1] == [first])
    return line.split()[1:]


def test_everything_of_a_file_is_there_and_fits_80_columns(tmp_path: Path, shown: Any) -> None:
    lines = shown(write_tiny_llama(tmp_path / "m.gguf", n_layer=1))
    assert max(map(len, lines)) <= 80
    assert cells(lines, "llama.attention.layer_norm_rms_epsilon") == ["1e-05"]
    assert cells(lines, "blk.0.attn_output.weight")[:4] == ["IQ4_KT", "256", "x", "256"]
    assert "  end of generation: 2 </s>" in lines
    assert "  begin: 1 <s>, in front of every text" in lines
    assert CHAT_TEMPLATE in "".join(line.removeprefix("  ") for line in lines)


def test_bits_per_weight_are_those_of_the_file(tmp_path: Path, shown: Any) -> None:
    lines = shown(write_tiny_llama(tmp_path / "m.gguf", n_layer=1))
    gate = TYPES[MIXED_TYPES["*.ffn_gate.weight"]]
    assert cells(lines, "blk.0.ffn_gate.weight")[-3] == f"{8 * gate.row_bytes(256) / 256:.3f}"
    assert cells(lines, "Q8_0")[2] == "8.500"
    assert cells(lines, "all")[1] == "100.0%"


def test_memory_is_for_the_context_asked_for(tmp_path: Path, shown: Any) -> None:
    path = write_tiny_llama(tmp_path / "m.gguf", n_layer=2, n_head_kv=2, n_ctx=512)
    # two layers of a key and a value, of two heads of 32 two-byte numbers, for each token
    assert "  keys and values, f16: 256.00 KiB for each request of that length" in shown(path)
    assert "  keys and values, f16: 50.00 KiB for each request of that length" in shown(path, 100)
    assert "  keys and values, q8_0: 26.56 KiB for each request of that length" in shown(path, 100, "q8_0")
    with pytest.raises(EspalierError, match="--ctx-size 513: 1 to 512 tokens"):
        run(path, 513, "f16")


def test_no_file_speaks_to_the_terminal(tmp_path: Path, shown: Any) -> None:
    evil = "\x1b]0;owned\x07[red]\u202e\n"
    metadata = {
        "general.architecture": evil,
        "general.name": evil,
        f"a{evil}": [evil],
        "tokenizer.chat_template": evil,
    }
    metadata |= spm_metadata(pieces_with((f"</{evil}>", 0.0, CONTROL)), eos_token_id=len(pieces_with()))
    tensor = Tensor(
        "t", "F32", (1,), bytes(4)
    )  # without one it would be a vocabulary, whatever its architecture
    text = "\n".join(shown(write_gguf(tmp_path / "m.gguf", metadata, [tensor])))
    assert not set(text) & set("\x1b\x07\u202e")
    # Shown as it is, no markup: four values, a key, the template and the architecture once more, the end token.
    assert text.count("[red]") == 8
    assert "model: not run by this build" in text


def test_a_template_that_no_build_would_read_is_told_not_shown(tmp_path: Path, shown: Any) -> None:
    path = write_tiny_llama(tmp_path / "m.gguf", n_layer=1, metadata={"tokenizer.chat_template": "a" * 2**20})
    assert "chat template: 1048576 characters; at most 65536 are read" in shown(path)


def test_a_vocabulary_that_cannot_be_read_hides_nothing_else(tmp_path: Path, shown: Any) -> None:
    path = write_tiny_llama(tmp_path / "m.gguf", metadata={"tokenizer.ggml.model": "runes"})
    lines = shown(path)
    assert "vocabulary: not usable by this build: tokenizer.ggml.model is 'runes'" in " ".join(lines)
    assert any(line.startswith("model: llama, 2 layers") for line in lines)


def test_latents_and_indexers_are_told(tmp_path: Path, shown: Any) -> None:
    """Of 4 layers a row of 128 two-byte numbers, of 3 indexers a key of 64 four-byte ones."""
    model = glm_dsa(top_k=96)
    lines = shown(write_file(tmp_path / "m.gguf", model, draw_tensors(model)))
    assert "  heads: 4, 64 wide, over a latent of 96 and 32 rotated; values 32 wide" in lines
    assert "  indexers: 96 tokens picked for each, by 16 heads of 64" in lines
    assert "  keys and values, f16: 896.00 KiB for each request of that length" in lines
