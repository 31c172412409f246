"""Guesses of the next tokens save steps and change no token."""

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest

from engine import Engine, EngineConfig, SamplingParams
from engine.request import Request
from engine.scheduler import MAX_DRAFTS, Draft
from support.asynchronous_ops import AsynchronousOps
from support.fake_model import EOS_ID, N_VOCAB, FakeModel, FakeOps, fake_loaded

CTX_SIZE, BLOCK_SIZE = 64, 4
Prompt = tuple[str, list[int], SamplingParams]


def make_engine(draft: Draft | None, n_blocks: int = 64, ops: FakeOps | None = None, **config: int) -> Engine:
    sizes = {"max_batch": 4, "kv_block_size": BLOCK_SIZE, "kv_memory_bytes": n_blocks * 4 * BLOCK_SIZE}
    loaded = fake_loaded(FakeModel(BLOCK_SIZE), CTX_SIZE, ops)
    return Engine(loaded, EngineConfig(**{"ctx_size": CTX_SIZE, **sizes, **config}), draft)


def answers_of(
    engine: Engine, prompts: Sequence[Prompt]
) -> tuple[dict[str, tuple[list[int], str | None]], int]:
    """Each request's tokens and finish reason, and how many steps all of them took."""
    for name, prompt, params in prompts:
        engine.add(name, prompt, params)
    answers: dict[str, tuple[list[int], str | None]] = {name: ([], None) for name, _, _ in prompts}
    n_steps = 0
    while engine.has_work:
        n_steps += 1
        for event in engine.step():
            token_ids, _ = answers[event.request_id]
            answers[event.request_id] = ([*token_ids, *event.token_ids], event.finish_reason)
        engine.check_integrity()
    assert engine.stats().n_free_blocks == engine.stats().n_blocks
    return answers, n_steps


def random_params(rng: random.Random) -> SamplingParams:
    kinds = [
        SamplingParams(temperature=0),
        SamplingParams(seed=rng.randrange(99)),
        SamplingParams(seed=7, frequency_penalty=0.9, presence_penalty=0.3, repetition_penalty=1.4),
        SamplingParams(temperature=0.4, top_k=5, seed=3, min_tokens=6, logprobs=2),
    ]
    params = rng.choice(kinds)
    max_tokens = rng.randrange(max(params.min_tokens, 1), 24)
    return replace(params, max_tokens=max_tokens, ignore_eos=rng.random() < 0.3)


class Guesser:
    """Drafts the answers it was told, with mistakes: right, wrong from some token on, or none."""

    def __init__(self, answers: dict[str, list[int]], rng: random.Random) -> None:
        self.answers, self.rng = answers, rng

    def __call__(self, request: Request, n_most: int) -> Sequence[int]:
        answer = [*self.answers[request.request_id], EOS_ID, 1, 2]
        guesses = answer[request.n_output :][: self.rng.randrange(n_most + 1)]
        if guesses and self.rng.random() < 0.5:
            guesses[self.rng.randrange(len(guesses))] = self.rng.randrange(N_VOCAB)
        return guesses


@pytest.mark.parametrize("seed", range(40))
def test_any_drafts_give_the_tokens_of_none(seed: int) -> None:
    """Few blocks, so that requests are preempted; small steps; all samplers; ends amid right drafts."""
    rng = random.Random(seed)
    prompts = [
        (f"r{i}", [rng.randrange(N_VOCAB) for _ in range(rng.randrange(1, 12))], random_params(rng))
        for i in range(7)
    ]
    sizes = {"n_blocks": rng.randrange(16, 40), "step_tokens": rng.randrange(1, 20)}
    plain, _ = answers_of(make_engine(None, **sizes), prompts)
    guesser = Guesser({name: token_ids for name, (token_ids, _) in plain.items()}, rng)
    drafted, _ = answers_of(make_engine(guesser, **sizes), prompts)
    assert drafted == plain


def test_right_drafts_give_many_tokens_a_step() -> None:
    params = SamplingParams(temperature=0, max_tokens=40, ignore_eos=True)
    plain, n_plain = answers_of(make_engine(None), [("a", [1, 2, 3], params)])
    known = plain["a"][0]
    drafted, n_drafted = answers_of(
        make_engine(lambda request, n_most: known[request.n_output :][:n_most]), [("a", [1, 2, 3], params)]
    )
    assert drafted == plain
    assert n_plain == 40
    assert n_drafted == 1 + -(-39 // (MAX_DRAFTS + 1)), "the prompt's step, then eight tokens a step"


def test_blocks_of_rejected_drafts_are_given_back_at_once() -> None:
    engine = make_engine(lambda request, n_most: [EOS_ID] * n_most, n_blocks=32)
    engine.add("a", [1, 2], SamplingParams(temperature=0, max_tokens=20, ignore_eos=True))
    for n_tokens in range(3, 12):
        engine.step()
        n_held = engine.stats().n_blocks - engine.stats().n_free_blocks
        assert n_held <= -(-(n_tokens + 1) // BLOCK_SIZE)


def test_drafts_take_no_block_from_anybody() -> None:
    """A pool for two requests alone: drafting neither preempts the other nor waits."""
    params = SamplingParams(temperature=0, max_tokens=10, ignore_eos=True)
    prompts = [("a", [1] * 6, params), ("b", [2] * 6, params)]
    plain, _ = answers_of(make_engine(None, n_blocks=16), prompts)
    known = {name: token_ids for name, (token_ids, _) in plain.items()}
    drafted, _ = answers_of(
        make_engine(lambda r, n: known[r.request_id][r.n_output :][:n], n_blocks=16), prompts
    )
    assert drafted == plain


def test_aborting_amid_drafts_leaves_the_others_alone() -> None:
    params = SamplingParams(temperature=0, max_tokens=30, ignore_eos=True)
    plain, _ = answers_of(make_engine(None), [("kept", [5, 6], params)])
    engine = make_engine(lambda request, n_most: [3] * n_most)
    engine.add("gone", [1, 2, 3], params)
    engine.add("kept", [5, 6], params)
    token_ids: list[int] = []
    for i in range(200):
        if i == 4:
            engine.abort("gone")
        token_ids += [t for event in engine.step() if event.request_id == "kept" for t in event.token_ids]
        engine.check_integrity()
        if not engine.has_work:
            break
    assert token_ids == plain["kept"][0]


def test_a_backend_that_looks_ahead_waits_where_drafts_depend_on_the_last_tokens() -> None:
    params = SamplingParams(temperature=0, max_tokens=20, ignore_eos=True)
    plain, _ = answers_of(make_engine(None), [("a", [4, 4], params)])
    known = plain["a"][0]
    drafted, _ = answers_of(
        make_engine(lambda r, n: known[r.n_output :][:n], ops=AsynchronousOps()), [("a", [4, 4], params)]
    )
    assert drafted == plain
