"""Requests as rows that a backend chooses by."""

import numpy as np

from engine.choice_rows import rows_of
from engine.choosing import sampled_tokens
from engine.request import Request
from engine.types import SamplingParams
from support.choices import REFERENCE, sample

N_VOCAB = 50

GREEDY = SamplingParams(temperature=0)
PARAMS = [
    GREEDY,
    SamplingParams(temperature=1.0),
    SamplingParams(temperature=0, logit_bias={7: 100.0}),
    SamplingParams(temperature=0, repetition_penalty=5.0),
    SamplingParams(temperature=1.3, min_p=0.1),
    SamplingParams(temperature=0.7, top_p=0.9),
    SamplingParams(temperature=0.7, top_k=5),
]


def requests_of(params: list[SamplingParams]) -> list[Request]:
    return [Request("r", p, i, [1, 2, 3 + i], 1, 9) for i, p in enumerate(params)]


def test_rows_that_fill_up_a_pass_change_no_choice() -> None:
    requests = requests_of(PARAMS)
    logits = np.random.default_rng(0).normal(0, 3, (len(PARAMS), N_VOCAB)).astype(np.float32)
    padded = np.concatenate([logits, np.full((3, N_VOCAB), 99, np.float32)])
    choices = rows_of(requests).padded(len(padded)).on(REFERENCE, np.zeros(len(padded), np.int32))
    chosen = REFERENCE.fetch_chosen(REFERENCE.choose(padded, choices), len(logits))()
    assert sampled_tokens(chosen) == sample(logits, requests)


def test_what_has_no_meaning_at_temperature_0_changes_nothing() -> None:
    logits = np.random.default_rng(1).normal(0, 3, (1, N_VOCAB)).astype(np.float32)
    others = SamplingParams(temperature=0, top_k=1, top_p=0.1, min_p=0.5)
    assert sample(logits, requests_of([others])) == sample(logits, requests_of([GREEDY]))


def test_a_step_in_which_nothing_can_change_says_so() -> None:
    presence = Request("r", SamplingParams(presence_penalty=1.0), 0, [1], 1, 9)
    assert rows_of(requests_of([GREEDY])).changes is None
    changes = rows_of([presence]).changes
    assert changes is not None
    assert len(changes) == 0, "none yet, but the token that nobody has read may be one"
