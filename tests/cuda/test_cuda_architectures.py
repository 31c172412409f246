"""Every architecture on the emulated GPU: the CPU backend's tokens and log-probabilities, bit for bit."""

from pathlib import Path

import pytest

from engine import Engine
from engine.loading import load_model
from engine.models import ARCHITECTURES
from kernels.ops import Ops
from support.architectures import MODELS
from support.architectures.random_file import draw_tensors, write_file
from support.transcripts import config_of, transcripts

NAMES = {model.architecture: name for name, model in MODELS.items()} | {
    model.architecture: name for name, model in MODELS.items() if model.types
}
KNOWN = [NAMES[architecture] for architecture in ARCHITECTURES if architecture in NAMES]
WITH_EXPERTS = [name for name in KNOWN if "expert_count" in MODELS[name].keys]
#: One with experts and latents, one with experts and states; the emulator takes one or two seconds for each.
QUICK = ("deepseek2", "qwen35moe")
CASES = [
    pytest.param(name, "cuda", marks=() if MODELS[name].architecture in QUICK else pytest.mark.slow)
    for name in KNOWN
]
CASES += [
    pytest.param(name, "cpu", marks=pytest.mark.slow) for name in WITH_EXPERTS
]  # test_experts_on_host.py is quick


@pytest.mark.slow
@pytest.mark.parametrize(("name", "experts"), CASES)
def test_requests_are_answered_as_on_the_cpu(
    tmp_path: Path, cpu_ops: Ops, cuda_ops: Ops, name: str, experts: str
) -> None:
    """Two requests together, prompts in pieces, then decode steps that are recorded and replayed."""
    path = write_file(tmp_path / "m.gguf", MODELS[name], draw_tensors(MODELS[name]))
    answers = []
    for ops, place in ((cpu_ops, "auto"), (cuda_ops, experts)):
        loaded = load_model(path, ops, experts=place)
        engine = Engine(loaded, config_of(loaded, step_tokens=24))
        answers.append(transcripts(engine, (1, 3), n_answer=5))
    assert answers[1] == answers[0]
