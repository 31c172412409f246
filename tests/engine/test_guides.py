"""Guides restrict a request's tokens, whatever else happens to it and to the others: one model, every schedule."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import pytest

from engine import Engine, EngineConfig, SamplingParams
from engine.errors import GuideError
from engine.guides.bad_words import BadWords
from engine.guides.combined import Together, together
from engine.guides.guide import Guide
from support.asynchronous_ops import AsynchronousOps
from support.fake_model import EOS_ID, N_VOCAB, FakeModel, FakeOps, fake_loaded, next_token, solo_answer

BLOCK_SIZE = 4
GREEDY = SamplingParams(temperature=0, max_tokens=20, ignore_eos=True)
EVERY = set(range(N_VOCAB))


class Follows:
    """Allows what a rule says of the tokens so far; asserts that it is told each of them once, in order."""

    def __init__(self, rule: Callable[[Sequence[int]], set[int]], n_most: int = 1000) -> None:
        self.seen: list[int] = []
        self._rule, self._n_most = rule, n_most

    def fill_mask(self, words: np.ndarray) -> bool:
        allowed = self._rule(self.seen)
        words[:] = 0
        for token_id in allowed:
            words[token_id // 32] |= 1 << token_id % 32
        return True

    def accept(self, token_id: int) -> None:
        assert token_id in self._rule(self.seen)
        self.seen.append(token_id)

    @property
    def is_finished(self) -> bool:
        return len(self.seen) >= self._n_most


def odd_even(seen: Sequence[int]) -> set[int]:
    """Depends on where in the answer the token is, and on the token before it."""
    return {t for t in EVERY if t % 2 == len(seen) % 2 and t != (seen[-1] + 1 if seen else -1)}


def alone(prompt: list[int], n: int, rule: Callable[[Sequence[int]], set[int]]) -> list[int]:
    """Greedy choice under the rule: the model's token, or the lowest of the others, which are all equal."""
    history = list(prompt)
    for _ in range(n):
        allowed = rule(history[len(prompt) :])
        likeliest = next_token(history)
        history.append(likeliest if likeliest in allowed else min(allowed))
    return history[len(prompt) :]


def make_engine(
    ops: FakeOps | None = None, n_blocks: int = 64, model: FakeModel | None = None, **config: int
) -> Engine:
    fields = {"max_batch": 4, "kv_block_size": BLOCK_SIZE, "kv_memory_bytes": n_blocks * 4 * BLOCK_SIZE}
    loaded = fake_loaded(model or FakeModel(BLOCK_SIZE), 64, ops)
    return Engine(loaded, EngineConfig(**{**fields, **config}))


def drained(engine: Engine) -> dict[str, tuple[list[int], str | None]]:
    answers: dict[str, tuple[list[int], str | None]] = {}
    while engine.has_work:
        for event in engine.step():
            token_ids = answers.get(event.request_id, ([], None))[0]
            answers[event.request_id] = ([*token_ids, *event.token_ids], event.finish_reason)
    engine.check_integrity()
    return answers


PROMPTS = {f"r{i}": [i + 1] * (i + 1) for i in range(6)}


@pytest.mark.parametrize("ops", [FakeOps, AsynchronousOps])
@pytest.mark.parametrize("keeps_state", [False, True])
@pytest.mark.parametrize(("n_blocks", "step_tokens"), [(64, 64), (17, 64), (17, 4)])
def test_guided_and_free_requests_are_answered_as_if_each_were_alone(
    ops: Callable[[], FakeOps], keeps_state: bool, n_blocks: int, step_tokens: int
) -> None:
    """17 blocks are too few for all, so requests are preempted and computed again."""
    model = FakeModel(BLOCK_SIZE, keeps_state=keeps_state)
    engine = make_engine(ops(), n_blocks, model, step_tokens=step_tokens)
    guides = {name: Follows(odd_even) for name in list(PROMPTS)[::2]}
    for name, prompt in PROMPTS.items():
        engine.add(name, prompt, GREEDY, guide=guides.get(name))
    answers = drained(engine)
    for name, prompt in PROMPTS.items():
        expected = alone(prompt, 20, odd_even if name in guides else lambda _: EVERY)
        assert answers[name] == (expected, "length"), name
    assert all(guide.seen == answers[name][0] for name, guide in guides.items())


def test_a_step_that_fails_is_repeated_and_a_guide_sees_each_token_once() -> None:
    model = FakeModel(BLOCK_SIZE)
    engine, guide = make_engine(AsynchronousOps(), model=model), Follows(odd_even)
    engine.add("a", [1, 2], GREEDY, guide=guide)
    n_failed, tokens = 0, []
    while engine.has_work:
        model.fail_next = n_failed < 5
        try:
            tokens += [t for event in engine.step() for t in event.token_ids]
        except RuntimeError:
            n_failed += 1
    assert n_failed == 5
    assert tokens == guide.seen == alone([1, 2], 20, odd_even)


def test_a_guided_request_does_not_stop_the_look_ahead_of_anyone() -> None:
    """Each pass is submitted before the tokens of the one before it are read, the guided request's too."""
    ops = AsynchronousOps()
    engine = make_engine(ops)
    engine.add("guided", [1, 2], GREEDY, guide=Follows(odd_even))
    engine.add("free", [3, 4], GREEDY)
    answers = drained(engine)
    assert answers["guided"][0] == alone([1, 2], 20, odd_even)
    assert answers["free"][0] == solo_answer([3, 4], 20, ignore_eos=True)[0]
    assert ops.log == ["step", *["step", "read"] * 19, "read"]


def test_a_guide_that_is_finished_ends_its_request_alone() -> None:
    engine = make_engine(AsynchronousOps())
    engine.add("a", [1, 2], GREEDY, guide=Follows(odd_even, n_most=3))
    engine.add("b", [3, 4], GREEDY)
    answers = drained(engine)
    assert answers["a"] == (alone([1, 2], 3, odd_even), "stop")
    assert answers["b"] == solo_answer([3, 4], 20, ignore_eos=True)


class Fails(Follows):
    def __init__(self, where: str, error: Exception) -> None:
        super().__init__(odd_even)
        self._where, self._error = where, error

    def fill_mask(self, words: np.ndarray) -> bool:
        if self._where == "fill_mask" and len(self.seen) == 2:
            raise self._error
        return super().fill_mask(words)

    def accept(self, token_id: int) -> None:
        if self._where == "accept" and len(self.seen) == 2:
            raise self._error
        super().accept(token_id)


@pytest.mark.parametrize("ops", [FakeOps, AsynchronousOps])
@pytest.mark.parametrize("where", ["fill_mask", "accept"])
def test_a_guide_that_fails_ends_its_request_with_a_line_and_no_other(
    ops: Callable[[], FakeOps], where: str
) -> None:
    engine = make_engine(ops())
    engine.add("known", [1, 2], GREEDY, guide=Fails(where, GuideError("the grammar is too large")))
    engine.add("bug", [2, 2], GREEDY, guide=Fails(where, RuntimeError("secret")))
    engine.add("b", [3, 4], GREEDY)
    errors, answers = {}, {}
    while engine.has_work:
        for event in engine.step():
            errors[event.request_id] = event.error
            answers.setdefault(event.request_id, []).extend(event.token_ids)
    assert errors == {
        "known": "the grammar is too large",
        "bug": "what restricts the answer has failed",
        "b": None,
    }
    assert answers["b"] == solo_answer([3, 4], 20, ignore_eos=True)[0]


def test_a_guide_that_allows_nothing_is_an_error_and_never_a_free_token() -> None:
    engine = make_engine()
    engine.add("a", [1, 2], GREEDY, guide=Follows(lambda seen: EVERY if len(seen) < 2 else set()))
    events = []
    while engine.has_work:
        events += engine.step()
    assert [event.finish_reason for event in events] == [None, None, "error"]


def test_a_guide_and_allowed_ids_and_penalties_act_together() -> None:
    params = SamplingParams(
        temperature=0, max_tokens=8, ignore_eos=True, allowed_token_ids=frozenset(range(0, 17, 3))
    )
    engine = make_engine()
    engine.add("a", [1, 2], params, guide=Follows(odd_even))
    assert drained(engine)["a"][0] == alone([1, 2], 8, lambda seen: odd_even(seen) & set(range(0, 17, 3)))


def test_a_drafting_engine_leaves_guided_requests_out() -> None:
    """A draft is checked by one pass, and the mask of its second token is not known by then."""
    loaded = fake_loaded(FakeModel(BLOCK_SIZE), 64)
    config = EngineConfig(max_batch=4, kv_block_size=BLOCK_SIZE, kv_memory_bytes=64 * 4 * BLOCK_SIZE)
    drafted = []

    def draft(request: object, n_most: int) -> list[int]:
        drafted.append(request.request_id)  # type: ignore[attr-defined]
        return [next_token(request.token_ids)]  # type: ignore[attr-defined]

    engine = Engine(loaded, config, draft)
    engine.add("guided", [1, 2], GREEDY, guide=Follows(odd_even))
    engine.add("free", [3, 4], GREEDY)
    answers = drained(engine)
    assert set(drafted) == {"free"}
    assert answers["guided"][0] == alone([1, 2], 20, odd_even)


def test_a_stop_token_ends_the_answer_and_is_named() -> None:
    answer = solo_answer([1, 2], 20, ignore_eos=True)[0]
    stop = answer[5]
    params = SamplingParams(
        temperature=0, max_tokens=20, ignore_eos=True, stop_token_ids=frozenset({stop, 3})
    )
    n_before = min(answer.index(t) for t in (stop, 3) if t in answer)
    engine = make_engine()
    engine.add("a", [1, 2], params)
    events = []
    while engine.has_work:
        events += engine.step()
    assert [t for event in events for t in event.token_ids] == answer[:n_before]
    assert (events[-1].finish_reason, events[-1].stop_token) == ("stop", answer[n_before])


def test_min_tokens_forbids_stop_tokens_and_the_models_ends() -> None:
    stops = frozenset(range(8))
    params = SamplingParams(temperature=0, max_tokens=20, stop_token_ids=stops, min_tokens=12)
    engine = make_engine()
    engine.add("a", [1, 2], params)
    token_ids = drained(engine)["a"][0]
    assert len(token_ids) >= 12
    expected = alone([1, 2], 12, lambda _: EVERY - stops - {EOS_ID})
    assert token_ids[:12] == expected


def test_bad_words_forbid_the_token_that_completes_one() -> None:
    free = solo_answer([1, 2], 20, ignore_eos=True)[0]
    words = [free[2:4], [free[7]], [EOS_ID, 5]]
    engine = make_engine()
    engine.add("a", [1, 2], GREEDY, guide=BadWords(words))
    answer = drained(engine)["a"][0]
    for word in words:
        places = range(len(answer) - len(word) + 1)
        assert not any(answer[i : i + len(word)] == list(word) for i in places)
    first_bad = min(3, free.index(free[7]))
    assert answer[:first_bad] == free[:first_bad]


def test_two_guides_allow_what_both_allow() -> None:
    thirds = partial(lambda _: set(range(0, N_VOCAB, 3)))
    both = Together([BadWords([[0]]), Follows(odd_even), Follows(thirds)])
    engine = make_engine()
    engine.add("a", [1, 2], GREEDY, guide=both)
    expected = alone([1, 2], 20, lambda seen: (odd_even(seen) & thirds(seen)) - {0})
    assert drained(engine)["a"][0] == expected


def test_no_guides_are_none_and_one_is_itself() -> None:
    one: Guide = BadWords([[1]])
    assert together([]) is None
    assert together([one]) is one
