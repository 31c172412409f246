"""The 20 tiny models of shared/models/arch against transformers' figures in their reference.json.

Random weights whose output matrix alone is fitted to a text, so that perplexities lie at 45 to 185 of 512 and greedy
text has margins. Their logits by support/checkpoints are checked in test_architectures_oracle.py.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from engine import Engine, EngineConfig, SamplingParams
from engine.loading import LoadedModel, load_model
from engine.models import ARCHITECTURES
from kernels.ops import Ops
from support.forward_pass import logits_of
from support.shared_data import shared_folder
from tools.model_runs import SequenceRuns
from tools.perplexity import cut, negative_log_likelihoods

FOLDER = shared_folder() / "models" / "arch"
WINDOW, N_WINDOWS = 128, 16


class Limits(NamedTuple):
    ppl: float  # relative
    logit: float | None
    margin: float  # of the best token over the second, above which the best is the same


#: F16 matrices take activations as they are; KT files' are rounded to int8, which moves logits by hundredths.
F16 = Limits(ppl=1e-3, logit=0.02, margin=0.05)
KT = Limits(ppl=1e-2, logit=None, margin=0.2)


def files_that_this_build_knows() -> dict[str, dict[str, Any]]:
    path = FOLDER / "reference.json"
    files = json.loads(path.read_text())["files"] if path.exists() else {}
    return {name: about for name, about in files.items() if about["arch"] in ARCHITECTURES}


FILES = files_that_this_build_knows()
#: One with states and experts, one with a latent cache: the quick suite's. The others are slow tests.
QUICK = ("qwen35moe-seedA-F16.gguf", "deepseek2-v3-seedA-IQ3_KT.gguf")
NAMES = [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in FILES]


def perplexity(loaded: LoadedModel, text: str) -> float:
    """Over the first 16 windows, as the reference was made: positions 64 to 126 against the next token."""
    windows = cut(loaded, text, WINDOW)[:N_WINDOWS]
    assert len(windows) == N_WINDOWS
    runs = SequenceRuns(loaded, N_WINDOWS, WINDOW)
    logits = runs.run(windows[:, :-1].tolist(), 0, WINDOW // 2 - 1)
    return float(np.exp(negative_log_likelihoods(logits, windows[:, WINDOW // 2 + 1 :].reshape(-1)).mean()))


@pytest.mark.parametrize("name", NAMES)
def test_a_shared_model_computes_what_transformers_does(shared: Path, cpu_ops: Ops, name: str) -> None:
    about, limits = FILES[name], F16 if name.endswith("F16.gguf") else KT
    loaded = load_model(FOLDER / name, cpu_ops)
    ppl = perplexity(loaded, (shared / "text" / "stories_eval.txt").read_text()[:12000])
    assert abs(ppl / about["hf_ppl"] - 1) < limits.ppl, (ppl, about["hf_ppl"])
    prompt_ids, greedy = about["prompt_ids"], about["greedy"]
    rows = logits_of(loaded, prompt_ids + greedy[:-1])[len(prompt_ids) - 1 :]
    if limits.logit is not None:
        np.testing.assert_allclose(rows[0], about["logits_after_prompt"], rtol=0, atol=limits.logit)
    behind = rows.max(axis=1) - rows[np.arange(len(greedy)), greedy]
    assert (behind < limits.margin).all(), "another token is better by more than a rounding explains"
    if about["greedy_min_margin"] > limits.margin:
        assert greedy_ids(loaded, prompt_ids, len(greedy)) == greedy


def greedy_ids(loaded: LoadedModel, prompt_ids: list[int], n_tokens: int) -> list[int]:
    engine = Engine(loaded, EngineConfig(max_batch=1))
    engine.add("r", prompt_ids, SamplingParams(temperature=0, max_tokens=n_tokens, ignore_eos=True))
    ids: list[int] = []
    while engine.has_work:
        for event in engine.step():
            assert event.finish_reason != "error", event.error
            ids += event.token_ids
    engine.check_integrity()
    return ids


def test_the_prompts_are_cut_into_the_reference_s_tokens(shared: Path, cpu_ops: Ops) -> None:
    for name, about in FILES.items():
        tokenizer = load_model(FOLDER / name, cpu_ops).tokenizer
        assert tokenizer is not None
        got = tokenizer.encode(about["prompt"], add_special=True, parse_special=False)
        assert list(got) == about["prompt_ids"], name
