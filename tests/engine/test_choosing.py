"""What is chosen on a device and from single rows is what the sampler chooses from all logits."""

import numpy as np
import pytest

from engine.choice_plan import plan_choices
from engine.choosing import choose, fetch
from engine.forward import Output
from engine.request import Request
from engine.sampling import Sampled, sample
from engine.types import SamplingParams
from kernels.ops import Selection
from support.fake_chooser import ChoosingOps

N_VOCAB = 50

GREEDY = SamplingParams(temperature=0)
PARAMS = {
    "all greedy": [GREEDY] * 4,
    "all drawn": [SamplingParams(temperature=0.8)] * 4,
    "mixed": [
        GREEDY,
        SamplingParams(temperature=1.0),
        SamplingParams(temperature=0, logit_bias={7: 100.0}),
        SamplingParams(temperature=0, repetition_penalty=5.0),
        # Nothing of this has a meaning at temperature 0.
        SamplingParams(temperature=0, top_k=1, top_p=0.1, min_p=0.5),
        SamplingParams(temperature=1.3, min_p=0.1),
        SamplingParams(temperature=0.7, top_p=0.9),
        SamplingParams(temperature=0.7, top_k=5),
    ],
}


def cases(name: str) -> tuple[np.ndarray, list[Request]]:
    rng = np.random.default_rng(len(name))
    params = PARAMS[name] * 3
    logits = rng.normal(0, 3, (len(params), N_VOCAB)).round(1).astype(np.float32)
    logits[0, 9], logits[1, :], logits[4, 3], logits[5, 2:5] = np.nan, -np.inf, np.inf, np.nan
    return logits, [Request("r", p, i, [1, 2, 3 + i], 1, 9) for i, p in enumerate(params)]


def chosen_by(
    ops: ChoosingOps, logits: np.ndarray, requests: list[Request], n_padding: int = 0
) -> list[Sampled]:
    plan = plan_choices(requests)
    padded = np.concatenate([logits, np.full((n_padding, N_VOCAB), 99, np.float32)])
    draws, changes, starts, by_host = plan.padded(len(padded))
    token_ids = np.zeros(len(padded), np.int32)
    chosen = ops.choose(
        padded, Selection(draws.view(np.int32).reshape(len(padded), -1), changes, starts, token_ids)
    )
    output = Output(padded, chosen, len(logits))
    return choose(ops, output, fetch(ops, output, by_host), by_host, requests)


@pytest.mark.parametrize("name", PARAMS)
def test_a_backend_that_chooses_changes_no_choice(name: str) -> None:
    logits, requests = cases(name)
    assert chosen_by(ChoosingOps(), logits.copy(), requests, n_padding=3) == sample(logits, requests)


def test_rows_that_the_device_decides_stay_there() -> None:
    logits, requests = cases("mixed")
    ops = ChoosingOps()
    chosen_by(ops, logits, requests)
    assert ops.n_values == 2 * len(logits)


def test_rows_with_more_changes_than_a_pass_takes_are_the_host_s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.choice_plan.MAX_CHANGES", 8)
    logits, requests = cases("mixed")
    plan = plan_choices(requests)
    assert plan.changes is not None
    assert len(plan.changes) == 8
    assert plan.by_host == [18, 19], "one bias or three seen tokens each, in order, up to eight"
    ops = ChoosingOps()
    assert chosen_by(ops, logits.copy(), requests) == sample(logits, requests)
    assert ops.n_values == 2 * len(logits) + len(plan.by_host) * N_VOCAB


def test_a_pass_in_which_nothing_can_change_says_so() -> None:
    presence = Request("r", SamplingParams(presence_penalty=1.0), 0, [1], 1, 9)
    assert plan_choices([Request("r", GREEDY, 0, [1], 1, 9)]).changes is None
    changes = plan_choices([presence]).changes
    assert changes is not None
    assert len(changes) == 0, "none yet, but the token that nobody has read may be one"
