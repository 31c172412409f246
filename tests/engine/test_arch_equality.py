"""Every architecture gives a request the same bits however it is run: alone, in pieces, in company, run again.

On the CPU here; tests/cuda/test_cuda_architectures.py has the same engine on the emulated GPU.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest

from engine import Engine
from engine.loading import LoadedModel, load_model
from engine.models import ARCHITECTURES
from engine.request import Request
from engine.scheduler import Scheduler
from kernels.ops import Ops
from support.architectures import MODELS
from support.architectures.random_file import draw_tensors, write_file
from support.forward_pass import logits_of
from support.random_models import TOKEN_IDS
from support.transcripts import PROMPTS, Transcript, config_of, transcripts

#: In KT types where there is such a model: rounded activations are what could depend on the company.
NAMES = {model.architecture: name for name, model in MODELS.items()} | {
    model.architecture: name for name, model in MODELS.items() if model.types
}
ALSO = ["deepseek2 Lite", "deepseek2 V3, one matrix for k and v", "glm-dsa"]
KNOWN = [name for name in [*NAMES.values(), *ALSO] if MODELS[name].architecture in ARCHITECTURES]


@pytest.fixture(scope="module", params=KNOWN)
def loaded(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, cpu_ops: Ops
) -> LoadedModel:
    path, model = tmp_path_factory.mktemp("model") / "m.gguf", MODELS[request.param]
    return load_model(write_file(path, model, draw_tensors(model)), cpu_ops)


def same_bits(got: np.ndarray, expected: np.ndarray) -> bool:
    return bool((got.view(np.uint32) == expected.view(np.uint32)).all())


@pytest.mark.slow
def test_a_prompt_cut_anywhere_gives_the_bits_of_the_whole_one(loaded: LoadedModel) -> None:
    """Across a block of the cache, and past two blocks of 64, which recurrent states may be computed by."""
    n_tokens = 40
    ids = TOKEN_IDS[:n_tokens].tolist()
    whole = logits_of(loaded, ids)
    for cut in range(1, n_tokens):
        assert same_bits(logits_of(loaded, ids, (cut,)), whole), f"cut before token {cut}"
    assert same_bits(logits_of(loaded, ids, tuple(range(1, n_tokens))), whole), "token by token"
    longer = TOKEN_IDS[: min(150, loaded.config.n_ctx_max)].tolist()
    for cuts in ((1, 63), (64, 65), (130,)):
        within = tuple(cut for cut in cuts if cut < len(longer))
        assert same_bits(logits_of(loaded, longer, within), logits_of(loaded, longer)), f"cut at {cuts}"


@pytest.mark.parametrize("kv_type", ["f16", pytest.param("q8_0", marks=pytest.mark.slow)])
def test_requests_are_answered_in_company_as_alone(loaded: LoadedModel, kv_type: str) -> None:
    """Tokens and each bit of their log-probabilities, of the prompts' too."""

    def answers(which: Iterable[int], **options: Any) -> list[Transcript]:
        engine = Engine(loaded, config_of(loaded, kv_type=kv_type, **options))
        return list(transcripts(engine, which).values())

    everyone = range(len(PROMPTS))
    alone = [answers([i])[0] for i in everyone]
    for options in ({}, {"step_tokens": 7}, {"max_batch": 2}, {"kv_block_size": 16}):
        assert answers(everyone, **options) == alone, options


def test_requests_that_lose_their_blocks_go_on_as_if_they_had_not(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.kv_cache.STATE_SHARE", 1)  # else states leave room for blocks in plenty
    roomy = Engine(loaded, config_of(loaded, kv_block_size=16))
    expected = transcripts(roomy, range(len(PROMPTS)))
    n_preempted = 0

    def counted(scheduler: Scheduler) -> Request:
        nonlocal n_preempted
        n_preempted += 1
        return preempt(scheduler)

    preempt = Scheduler._preempt_youngest
    monkeypatch.setattr(Scheduler, "_preempt_youngest", counted)
    few = 10 * roomy.kv.block_bytes + len(PROMPTS) * roomy.kv.slot_bytes  # they need 15 blocks
    engine = Engine(loaded, config_of(loaded, kv_memory_bytes=few, kv_block_size=16))
    assert engine.kv.n_blocks == 10
    assert transcripts(engine, range(len(PROMPTS))) == expected
    assert n_preempted
