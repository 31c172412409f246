"""What is chosen on a device and from single rows is what the sampler chooses from all logits."""

import numpy as np
import pytest

from engine.choosing import choose, draws_of, fetch
from engine.forward import Output
from engine.request import Request
from engine.sampling import Sampled, sample
from engine.types import SamplingParams
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


def chosen_by(ops: ChoosingOps, output: Output, requests: list[Request]) -> list[Sampled]:
    return choose(ops, output, fetch(ops, output, requests), requests)


@pytest.mark.parametrize("name", PARAMS)
def test_a_backend_that_chooses_changes_no_choice(name: str) -> None:
    logits, requests = cases(name)
    ops = ChoosingOps()
    padded = np.concatenate([logits, np.full((3, N_VOCAB), 99, np.float32)])
    output = Output(padded, ops.choose(padded, np.pad(draws_of(requests), ((0, 3), (0, 0)))), len(logits))
    assert chosen_by(ops, output, requests) == sample(logits, requests)


def test_rows_that_the_device_decides_stay_there() -> None:
    logits, requests = cases("mixed")
    ops = ChoosingOps()
    chosen_by(ops, Output(logits, ops.choose(logits, draws_of(requests)), len(logits)), requests)
    n_whole_rows = 3 * 3  # of each eight: bias, penalty, top_p
    assert ops.n_values == 2 * len(logits) + n_whole_rows * N_VOCAB
