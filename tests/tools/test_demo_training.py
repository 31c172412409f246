"""Two minutes of the demo's training: it learns, its seed decides it, and its matrices survive four bits."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

STEPS = 150  # of 1800; about two minutes of one core


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the short training wrote. Imported here: torch is not installed where the slow suite does not run."""
    from tools.demo.train import Recipe, train

    out = tmp_path_factory.mktemp("demo")
    train(replace(Recipe(), steps=STEPS), out)
    return out


def test_two_minutes_are_enough_to_learn_most_answers(folder: Path) -> None:
    """Measured at 150 steps: 0.2; an untrained model has ln(2048) = 7.6."""
    reports = json.loads((folder / "log.json").read_text())["reports"]
    assert reports[-1]["step"] == STEPS
    assert reports[-1]["answer_loss"] < 0.5


def test_the_seed_decides_every_weight(tmp_path: Path) -> None:
    import torch

    from tools.demo.train import Recipe, train

    first, again, other = tmp_path / "first", tmp_path / "again", tmp_path / "other"
    recipe = replace(Recipe(), steps=3)
    for out, seed in ((first, recipe.seed), (again, recipe.seed), (other, recipe.seed + 1)):
        train(replace(recipe, seed=seed), out)
    a, b, c = (torch.load(out / "weights.pt")["weights"]["token_embd"] for out in (first, again, other))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


def test_four_bits_cost_little_and_the_files_say_what_they_are(folder: Path, tmp_path: Path) -> None:
    """Measured on the shipped model: the perplexity of IQ4_KT is within 0.1 % of F16's; 3 % is what was asked for."""
    from tools.demo.export import export

    result = export(folder, tmp_path / "demo.gguf")
    f16, iq4_kt = (result[name]["answer_perplexity"] for name in ("f16", "iq4_kt"))
    assert abs(iq4_kt / f16 - 1) < 0.03
    assert result["iq4_kt"]["file_bytes"] < 4 << 20
    assert json.loads((folder / "log.json").read_text())["judged"] == result
