"""The engine on the shared story models, CPU backend: the peer's greedy texts, and one answer in any company."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from engine import Engine, EngineConfig, SamplingParams
from engine.loading import LoadedModel, load_model
from kernels.ops import Ops

#: The peer computes these with other activation roundings; a first difference must be a tie within this gap.
NEAR_TIE = 0.05
N_GREEDY = 32

EXACT = ["F16", "Q8_0-pure", "Q6_0-pure"]
KT = ["IQ1_KT", "IQ2_KT", "IQ3_KT-pure", "IQ4_KT"]


def load(shared: Path, name: str, ops: Ops) -> LoadedModel:
    return load_model(shared / "models" / f"stories-wide256-{name}.gguf", ops)


def answers(
    loaded: Any, requests: dict[str, tuple[list[int], SamplingParams]], **config: Any
) -> dict[str, list[int]]:
    engine = Engine(loaded, EngineConfig(**config))
    for name, (prompt_ids, params) in requests.items():
        engine.add(name, prompt_ids, params)
    got: dict[str, list[int]] = {name: [] for name in requests}
    while engine.has_work:
        for event in engine.step():
            got[event.request_id] += event.token_ids
            assert event.finish_reason != "error", event.error
    engine.check_integrity()
    return got


def greedy_with_logits(loaded: LoadedModel, prompt_ids: list[int]) -> tuple[list[int], list[np.ndarray]]:
    """N_GREEDY tokens of one request and the logits that chose each."""
    rows: list[np.ndarray] = []

    def logits(ops: Ops, hidden: Any) -> Any:
        result = loaded.model.logits(ops, hidden)
        rows.append(np.array(ops.to_host(result)[0]))
        return result

    model = loaded.model
    spying = SimpleNamespace(cache_groups=model.cache_groups, forward=model.forward, logits=logits)
    spied = replace(loaded, model=spying)
    params = SamplingParams(temperature=0, max_tokens=N_GREEDY, ignore_eos=True)
    return answers(spied, {"r": (prompt_ids, params)}, max_batch=1)["r"], rows


def ids_that_spell(
    loaded: LoadedModel, prompt_ids: list[int], text: str, token_ids: list[int]
) -> Iterator[int]:
    """Ids that, put in place of the last of token_ids, go on along the text."""
    tokenizer = loaded.tokenizer
    start = len(tokenizer.decode(prompt_ids))
    for token_id in range(tokenizer.n_vocab):
        spelled = tokenizer.decode([*prompt_ids, *token_ids[:-1], token_id])[start:]
        if text.startswith(spelled) and len(spelled) > len(
            tokenizer.decode([*prompt_ids, *token_ids[:-1]])[start:]
        ):
            yield token_id


@pytest.mark.parametrize("name", EXACT)
def test_greedy_texts_equal_the_peers_or_part_at_a_near_tie(shared, cpu_ops, name):
    loaded = load(shared, name, cpu_ops)
    reference = json.loads((shared / "models" / "reference.json").read_text())
    for case in reference[f"stories-wide256-{name}.gguf"]["greedy"]:
        prompt_ids, text = case["prompt_ids"], case["text"]
        token_ids, rows = greedy_with_logits(loaded, prompt_ids)
        start = len(loaded.tokenizer.decode(prompt_ids))
        for n in range(1, len(token_ids) + 1):
            spelled = loaded.tokenizer.decode([*prompt_ids, *token_ids[:n]])[start:]
            if not text.startswith(spelled[: len(text)]):
                row = rows[n - 1]
                gap = min(
                    row[token_ids[n - 1]] - row[i]
                    for i in ids_that_spell(loaded, prompt_ids, text, token_ids[:n])
                )
                print(f"{name}: {case['prompt']!r} parts at token {n}, logits gap {gap:.4f}")
                assert gap < NEAR_TIE, spelled
                break
