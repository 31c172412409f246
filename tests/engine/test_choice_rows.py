"""Requests as rows that a backend chooses by."""

import math
from dataclasses import fields, replace

import numpy as np
import pytest

from engine.choice_rows import TokenIds, rows_of
from engine.choosing import sampled_tokens
from engine.request import Request
from engine.types import SamplingParams
from kernels.choice_row import CHOICE_ROW
from kernels.ops import Ops
from support.choices import REFERENCE, choose_tokens, sample

N_VOCAB = 50
END_IDS = (7, 49)
TOKENS = TokenIds(N_VOCAB, frozenset(END_IDS))

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
    choices = rows_of(requests, TOKENS).padded(len(padded)).on(REFERENCE, np.zeros(len(padded), np.int32))
    chosen = REFERENCE.fetch_chosen(REFERENCE.choose(padded, choices), len(logits))()
    assert sampled_tokens(chosen, requests) == sample(logits, requests)


def test_what_has_no_meaning_at_temperature_0_changes_nothing() -> None:
    logits = np.random.default_rng(1).normal(0, 3, (1, N_VOCAB)).astype(np.float32)
    others = SamplingParams(temperature=0, top_k=1, top_p=0.1, min_p=0.5)
    assert sample(logits, requests_of([others])) == sample(logits, requests_of([GREEDY]))


def test_a_step_in_which_nothing_can_change_says_so() -> None:
    presence = Request("r", SamplingParams(presence_penalty=1.0), 0, [1], 1, 9)
    assert rows_of(requests_of([GREEDY]), TOKENS).changes is None
    changes = rows_of([presence], TOKENS).changes
    assert changes is not None
    assert len(changes) == 0, "none yet, but the token that nobody has read may be one"


#: Of each field that says how tokens are chosen, a value, and what of a step's rows it shows in.
SHOWS_IN = {
    "temperature": (0.7, {"temperature", "rate"}),
    "top_k": (5, {"top_k"}),
    "top_p": (0.5, {"top_p"}),
    "min_p": (0.5, {"floor"}),
    "repetition_penalty": (1.5, {"repetition_penalty", "changes"}),
    "frequency_penalty": (0.5, {"frequency_penalty", "changes"}),
    "presence_penalty": (0.5, {"presence_penalty", "changes"}),
    "logit_bias": ({3: 1.0}, {"changes"}),
    "min_tokens": (2, {"changes"}),
    "allowed_token_ids": (frozenset({3}), {"has_mask", "mask"}),
    "sampler_order": (("min_p", "top_k", "top_p", "temperature"), {"order"}),
    "logprobs": (3, {"wants_logprob", "n_top_logprobs", "gives_logprobs"}),
}
#: Fields that the engine honours itself: when an answer ends, and what Request.seed is.
OF_THE_ENGINE = {"max_tokens", "ignore_eos", "stop_token_ids", "seed"}
#: What of a row a request says, and no parameter.
OF_THE_REQUEST = {"seed", "position", "n_unread"}


def shown(params: SamplingParams) -> dict[str, bytes]:
    """A request's row, field by field, and what lies beside it."""
    rows = rows_of([Request("r", params, 0, [1, 2, 3], 1, 9)], TOKENS)
    names = [name for name in CHOICE_ROW.names or () if not name[1:].isdigit()]  # not NumPy's own of a gap
    by_field = {name: rows.rows[name].tobytes() for name in names}
    beside = {"changes": rows.changes, "mask": rows.mask}
    others = {name: b"" if array is None else array.tobytes() + b"there" for name, array in beside.items()}
    return by_field | others | {"gives_logprobs": bytes([rows.gives_logprobs])}


def test_every_sampling_parameter_reaches_the_backend_and_every_field_has_one() -> None:
    assert set(SHOWS_IN) | OF_THE_ENGINE == {field.name for field in fields(SamplingParams)}
    plain = shown(SamplingParams())
    for name, (value, places) in SHOWS_IN.items():
        with_it = shown(replace(SamplingParams(), **{name: value}))
        assert {place for place in plain if plain[place] != with_it[place]} == places, name
    in_rows = {place for _, places in SHOWS_IN.values() for place in places} | OF_THE_REQUEST
    assert set(plain) == in_rows


def one(params: SamplingParams, answer: tuple[int, ...] = ()) -> Request:
    return Request("r", params, 0, [1, *answer], 1, 99)


@pytest.mark.parametrize("temperature", [0, 1.0])
@pytest.mark.parametrize("bias", [{}, {7: 100.0}], ids=["no bias", "a bias on it"])
def test_an_end_token_cannot_be_chosen_before_min_tokens(
    ops: Ops, temperature: float, bias: dict[int, float]
) -> None:
    """Also where the step is prepared before the last token was read, and once more without it."""
    logits = np.zeros((1, N_VOCAB), np.float32)
    logits[0, 7], logits[0, 3] = 90, 60
    request = one(SamplingParams(temperature=temperature, min_tokens=2, logit_bias=bias))
    read_on = np.array([9], np.int32)

    def token(unread: np.ndarray | None = None) -> int:
        return choose_tokens(ops, logits, [request], unread, END_IDS)[0].token_id

    assert token() == 3
    request.token_ids.append(9)
    assert [token(), token(read_on), token()] == [3, 7, 3], "the answer has one, two, and again one token"
    request.token_ids.append(9)
    assert token() == 7


def test_only_allowed_tokens_are_chosen_whatever_their_bias(ops: Ops) -> None:
    logits = np.random.default_rng(2).normal(0, 3, (3, N_VOCAB)).astype(np.float32)
    allowed = frozenset({4, 31, 32, N_VOCAB - 1})
    params = SamplingParams(temperature=0, allowed_token_ids=allowed, logit_bias={5: 100.0})
    requests = [one(params), one(replace(params, temperature=2.0)), one(GREEDY)]
    constrained, drawn, free = choose_tokens(ops, logits, requests)
    assert constrained.token_id == max(sorted(allowed), key=lambda t: logits[0, t])
    assert drawn.token_id in allowed
    assert free.token_id == logits[2].argmax()


def test_logprobs_come_with_the_requests_that_ask_for_them(ops: Ops) -> None:
    logits = np.random.default_rng(3).normal(0, 3, (3, N_VOCAB)).astype(np.float32)
    params = SamplingParams(temperature=0, logit_bias={5: 100.0}, logprobs=2)
    asked, chosen_only, silent = choose_tokens(
        ops, logits, [one(params), one(replace(params, logprobs=0)), one(GREEDY)]
    )
    exact = logits - np.log(np.exp(logits.astype(np.float64)).sum(axis=1, keepdims=True))
    assert (asked.token_id, chosen_only.token_id, silent.logprobs) == (5, 5, None)
    assert asked.logprobs is not None
    assert chosen_only.logprobs is not None
    # The model's own, whatever the bias: within the rounding of a float32 near 8.
    assert math.isclose(asked.logprobs.logprob, exact[0, 5], abs_tol=1e-6)
    assert [token_id for token_id, _ in asked.logprobs.top] == np.argsort(-exact[0])[:2].tolist()
    assert math.isclose(chosen_only.logprobs.logprob, exact[1, 5], abs_tol=1e-6)
    assert chosen_only.logprobs.top == ()


def test_the_order_of_samplers_matters_where_it_should(ops: Ops) -> None:
    """At temperature 4 the mass is flat: half of it takes several tokens, before the temperature two."""
    logits = np.arange(N_VOCAB, dtype=np.float32)[None] * 0.5
    plain = SamplingParams(temperature=4.0, top_p=0.5)
    last = replace(plain, sampler_order=("top_k", "top_p", "min_p", "temperature"))

    def drawn(params: SamplingParams) -> set[int]:
        requests = [Request("r", params, seed, [1], 1, 9) for seed in range(40)]
        return {sampled.token_id for sampled in choose_tokens(ops, np.repeat(logits, 40, axis=0), requests)}

    assert drawn(last) == {48, 49}
    assert len(drawn(plain)) > 3
