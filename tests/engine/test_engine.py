"""The engine's door, on a model that hashes what it reads through its block tables."""

import numpy as np
import pytest

from engine import (
    ContextLengthError,
    Engine,
    EngineConfig,
    EspalierError,
    PromptReads,
    QueueFullError,
    RequestError,
    SamplingParams,
    TokenEvent,
)
from support.asynchronous_ops import AsynchronousOps
from support.fake_model import EOS_ID, N_VOCAB, FakeModel, FakeOps, fake_loaded, solo_answer

CTX_SIZE = 64
BLOCK_SIZE = 4
GREEDY = SamplingParams(temperature=0, max_tokens=20, ignore_eos=True)


def make_engine(model: FakeModel | None = None, n_blocks: int = 64, **config) -> Engine:
    fields = {"max_batch": 4, "kv_block_size": BLOCK_SIZE, "kv_memory_bytes": n_blocks * 4 * BLOCK_SIZE}
    return Engine(fake_loaded(model or FakeModel(BLOCK_SIZE), CTX_SIZE), EngineConfig(**{**fields, **config}))


def drain(engine: Engine) -> dict[str, tuple[list[int], str | None]]:
    """{request id: (its tokens, its finish reason)} of everything the engine holds."""
    answers: dict[str, tuple[list[int], str | None]] = {}
    while engine.has_work:
        for event in engine.step():
            token_ids, reason = answers.get(event.request_id, ([], None))
            assert reason is None, "an event after the last one"
            answers[event.request_id] = ([*token_ids, *event.token_ids], event.finish_reason)
    engine.check_integrity()
    stats = engine.stats()
    assert (stats.n_waiting, stats.n_running, stats.n_free_blocks) == (0, 0, stats.n_blocks)
    return answers


def prompt_ending_in_eos() -> list[int]:
    """A prompt whose answer reaches the end-of-generation token after a few others."""
    prompts = ([i, j] for i in range(N_VOCAB) for j in range(N_VOCAB))
    return next(p for p in prompts if solo_answer(p, 20)[1] == "stop" and len(solo_answer(p, 20)[0]) > 2)


def test_a_request_that_asks_is_told_how_far_its_prompt_has_been_read():
    engine = make_engine(step_tokens=4)
    engine.add("a", [1] * 10, GREEDY, PromptReads(progress=True))
    engine.add("b", [2] * 10, GREEDY)
    told: dict[str, list[int]] = {"a": [], "b": []}
    while engine.has_work:
        for event in engine.step():
            told[event.request_id].append(event.n_read)
    assert told["a"][:3] == [4, 8, 10]
    assert set(told["b"]) == {10}


def test_an_answer_stops_before_the_end_of_generation_token():
    engine, prompt = make_engine(), prompt_ending_in_eos()
    engine.add("a", prompt, SamplingParams(temperature=0))
    token_ids, reason = drain(engine)["a"]
    assert (token_ids, reason) == solo_answer(prompt, CTX_SIZE)
    assert reason == "stop"
    assert EOS_ID not in token_ids


def test_ignore_eos_goes_on_to_max_tokens():
    engine, prompt = make_engine(), prompt_ending_in_eos()
    engine.add("a", prompt, GREEDY)
    token_ids, reason = drain(engine)["a"]
    assert (token_ids, reason) == solo_answer(prompt, 20, ignore_eos=True)
    assert EOS_ID in token_ids
    assert (len(token_ids), reason) == (20, "length")


@pytest.mark.parametrize("max_tokens", [None, CTX_SIZE - 2, 4096, 2**31 - 1])
def test_an_answer_ends_with_the_context_however_many_tokens_are_asked(max_tokens):
    engine = make_engine()
    engine.add("a", [1, 2, 3], SamplingParams(temperature=0, max_tokens=max_tokens, ignore_eos=True))
    token_ids, reason = drain(engine)["a"]
    assert (3 + len(token_ids), reason) == (CTX_SIZE, "length")


def test_an_answer_of_no_tokens_is_one_event_whatever_the_token_would_have_been():
    engine = make_engine()
    for name, prompt in (("a", [1, 2, 3]), ("b", [5] * 60)):
        engine.add(name, prompt, SamplingParams(temperature=0, max_tokens=0))
    assert drain(engine) == {"a": ([], "length"), "b": ([], "length")}
    assert engine.stats().n_free_blocks == engine.stats().n_blocks


def test_events_count_the_prompt_and_the_last_one_has_token_and_reason():
    engine = make_engine()
    engine.add("a", [1, 2, 3], SamplingParams(temperature=0, max_tokens=1, ignore_eos=True))
    (expected,), _ = solo_answer([1, 2, 3], 1, ignore_eos=True)
    assert engine.step() == [TokenEvent("a", (expected,), "length", n_prompt=3, n_read=3)]


def test_a_prompt_in_pieces_has_no_event_before_its_last():
    engine = make_engine(step_tokens=10)
    engine.add("a", [1] * 25, GREEDY)
    assert [len(engine.step()) for _ in range(4)] == [0, 0, 1, 1]


@pytest.mark.parametrize("step_tokens", [1, 7, 512])
@pytest.mark.parametrize("n_blocks", [16, 20, 64], ids=["preempting", "tight", "roomy"])
def test_answers_are_the_same_in_any_company(step_tokens, n_blocks):
    rng = np.random.default_rng(n_blocks)
    engine = make_engine(n_blocks=n_blocks, step_tokens=step_tokens)
    prompts = {f"r{i}": rng.integers(0, N_VOCAB, rng.integers(1, 40)).tolist() for i in range(12)}
    for name, prompt in prompts.items():
        engine.add(name, prompt, GREEDY)
    expected = {name: solo_answer(prompt, 20, ignore_eos=True) for name, prompt in prompts.items()}
    assert drain(engine) == expected


def asynchronous_engine(**config) -> tuple[Engine, AsynchronousOps]:
    ops = AsynchronousOps()
    fields = {"max_batch": 4, "kv_block_size": BLOCK_SIZE, "kv_memory_bytes": 64 * 4 * BLOCK_SIZE, **config}
    return Engine(fake_loaded(FakeModel(BLOCK_SIZE), CTX_SIZE, ops), EngineConfig(**fields)), ops


def test_where_the_backend_runs_asynchronously_a_step_is_launched_before_the_last_one_is_read():
    engine, ops = asynchronous_engine()
    engine.add("a", [1, 2, 3], SamplingParams(temperature=0, max_tokens=4, ignore_eos=True))
    assert drain(engine)["a"] == solo_answer([1, 2, 3], 4, ignore_eos=True)
    assert ops.log == ["step", "step", "read", "step", "read", "step", "read", "read"]


def test_penalties_count_the_token_of_a_step_that_nobody_has_read():
    prompts = np.random.default_rng(5).integers(0, N_VOCAB, (8, 5)).tolist()
    answers = []
    for ops in (FakeOps(), AsynchronousOps()):
        engine = Engine(
            fake_loaded(FakeModel(BLOCK_SIZE), CTX_SIZE, ops), EngineConfig(kv_block_size=BLOCK_SIZE)
        )
        for i in range(8):
            params = SamplingParams(
                temperature=(0, 1.5)[i % 2],
                top_p=(1.0, 0.8)[i // 4],
                seed=i,
                max_tokens=25,
                repetition_penalty=1.6,
                frequency_penalty=0.3,
                presence_penalty=0.2,
                logit_bias={3: 0.5, i: -1.0},
                ignore_eos=True,
            )
            engine.add(str(i), prompts[i], params)
        answers.append(drain(engine))
    assert answers[0] == answers[1]


def test_a_newcomer_waits_for_one_step_that_was_launched_ahead_of_it():
    engine, _ = asynchronous_engine()
    engine.add("a", [1, 2, 3], GREEDY)
    engine.step()
    engine.add("b", [4, 5], GREEDY)
    assert [event.request_id for event in engine.step()] == ["a"]
    assert [event.request_id for event in engine.step()] == ["a", "b"]


def test_an_id_used_again_while_a_step_of_the_old_request_is_under_way_gets_none_of_its_tokens():
    engine, _ = asynchronous_engine()
    engine.add("a", [1, 2, 3], GREEDY)
    engine.add("b", [7, 8], GREEDY)
    engine.step()
    engine.abort("a")
    engine.add("a", [4, 5], GREEDY)
    first = engine.step()
    assert [event.request_id for event in first] == ["b"]
    assert drain(engine)["a"] == solo_answer([4, 5], 20, ignore_eos=True)


def test_a_step_ahead_of_requests_that_have_all_gone_is_dropped():
    engine, ops = asynchronous_engine()
    engine.add("a", [1, 2, 3], GREEDY)
    engine.step()
    engine.abort("a")
    assert engine.step() == []
    engine.add("b", [4, 5], GREEDY)
    assert [event.request_id for event in engine.step()] == ["b"]
    assert ops.log == ["step", "step", "read", "step", "step", "read"]


def test_an_abort_does_not_keep_the_others_from_being_launched_ahead():
    engine, ops = asynchronous_engine()
    for name, prompt in {"a": [1, 2, 3], "b": [7, 8]}.items():
        engine.add(name, prompt, GREEDY)
    engine.step()
    engine.abort("a")
    engine.step()
    assert ops.log == ["step", "step", "read", "step", "read"], (
        "the third step began before the second was read"
    )
    assert drain(engine)["b"] == (solo_answer([7, 8], 20, ignore_eos=True)[0][2:], "length")


def test_a_step_that_fails_while_it_is_read_is_computed_again():
    """Not skipped for the step that was launched after it."""
    engine, ops = asynchronous_engine()
    engine.add("a", [1, 2, 3], GREEDY)
    (first,) = engine.step()
    ops.fail_next_read = True
    with pytest.raises(RuntimeError, match="the device is gone"):
        engine.step()
    token_ids, reason = drain(engine)["a"]
    assert ([*first.token_ids, *token_ids], reason) == solo_answer([1, 2, 3], 20, ignore_eos=True)


def test_when_every_request_has_been_ended_the_step_launched_ahead_is_let_go():
    """Its results hold memory of the device, and nobody will read them."""
    engine, ops = asynchronous_engine()
    engine.add("a", [1, 2, 3], GREEDY)
    engine.step()
    assert ops.n_unread == 1
    engine.fail_all("enough")
    assert ops.n_unread == 0
    engine.add("a", [4, 5], GREEDY)
    assert drain(engine)["a"] == solo_answer([4, 5], 20, ignore_eos=True)


def test_a_seed_repeats_and_no_seed_does_not():
    def answer(seed: int | None) -> list[int]:
        engine = make_engine()
        engine.add("a", [1, 2, 3], SamplingParams(temperature=2.0, seed=seed, max_tokens=40, ignore_eos=True))
        return drain(engine)["a"][0]

    assert answer(7) == answer(7) == answer(7 + 2**64 - 2**64)
    assert answer(-1) == answer(2**64 - 1)
    assert answer(7) != answer(8)
    assert answer(None) != answer(None)


@pytest.mark.parametrize("max_tokens", [None, 0, 5])
def test_a_prompt_that_does_not_fit_the_context_is_refused_with_both_numbers(max_tokens):
    engine = make_engine()
    with pytest.raises(ContextLengthError) as caught:
        engine.add("a", [1] * 64, SamplingParams(max_tokens=max_tokens))
    assert "maximum context length is 64 tokens" in str(caught.value)
    assert "requested 65 tokens (64 in the prompt)" in str(caught.value)
    assert (caught.value.param, caught.value.code) == ("prompt", "context_length_exceeded")
    assert (caught.value.n_prompt_tokens, caught.value.n_ctx) == (64, 64)
    assert not engine.has_work


@pytest.mark.parametrize("prompt", [[], [-1], [N_VOCAB], [1, 2**40]], ids=str)
def test_a_prompt_that_is_empty_or_outside_the_vocabulary_is_refused(prompt):
    with pytest.raises(RequestError) as caught:
        make_engine().add("a", prompt, GREEDY)
    assert caught.value.param == "prompt"


def test_bad_sampling_is_refused_when_added():
    engine = make_engine()
    with pytest.raises(RequestError, match="temperature"):
        engine.add("a", [1], SamplingParams(temperature=-1))
    assert not engine.has_work


def test_the_queue_is_bounded():
    engine = make_engine(max_batch=2, max_queue=1)
    for name in "abc":
        engine.add(name, [1], GREEDY)
    with pytest.raises(QueueFullError):
        engine.add("d", [1], GREEDY)
    assert set(drain(engine)) == {"a", "b", "c"}


@pytest.mark.parametrize("n_steps", range(0, 24, 3))
def test_an_abort_at_any_time_frees_the_blocks_and_touches_nobody(n_steps):
    engine = make_engine(n_blocks=17, step_tokens=8, max_batch=3)
    prompts = {name: [ord(name) % N_VOCAB] * n for name, n in zip("abcd", (20, 15, 11, 3), strict=True)}
    for name, prompt in prompts.items():
        engine.add(name, prompt, GREEDY)
    answers: dict[str, list[int]] = {name: [] for name in prompts}
    for _ in range(n_steps):
        for event in engine.step():
            answers[event.request_id] += event.token_ids
    for name in ("b", "d", "d", "never seen"):
        engine.abort(name)
        engine.check_integrity()
    rest = drain(engine)
    assert not {"b", "d"} & rest.keys()
    for name in rest:
        answers[name] += rest[name][0]
    for name in "ac":
        assert answers[name] == solo_answer(prompts[name], 20, ignore_eos=True)[0]


def test_logits_that_are_not_finite_end_one_request_alone():
    model = FakeModel(BLOCK_SIZE)
    engine = make_engine(model)
    prompts = {name: [i, 5] for i, name in enumerate("abc")}
    for name, prompt in prompts.items():
        engine.add(name, prompt, GREEDY)
    events = engine.step() + engine.step()
    model.poison.add(1)
    (bad,) = [event for event in engine.step() if event.request_id == "b"]
    assert (bad.token_ids, bad.finish_reason) == ((), "error")
    assert bad.error == "the model's logits are not finite"
    rest = drain(engine)
    assert rest.keys() == {"a", "c"}
    for name in "ac":
        seen = [t for event in events if event.request_id == name for t in event.token_ids]
        full = solo_answer(prompts[name], 20, ignore_eos=True)[0]
        assert full[:2] == seen
        assert rest[name] == (full[3:], "length")


def test_a_step_that_raises_leaves_an_engine_that_can_end_everything_and_go_on():
    model = FakeModel(BLOCK_SIZE)
    engine = make_engine(model, max_batch=1)
    engine.add("running", [1, 2], GREEDY)
    engine.step()
    engine.add("waiting", [3], GREEDY)
    model.fail_next = True
    with pytest.raises(RuntimeError, match="the device is gone"):
        engine.step()
    events = engine.fail_all("the device is gone")
    assert [(e.request_id, e.finish_reason, e.error) for e in events] == [
        ("running", "error", "the device is gone"),
        ("waiting", "error", "the device is gone"),
    ]
    engine.check_integrity()
    engine.add("next", [1, 2], GREEDY)
    assert drain(engine)["next"] == solo_answer([1, 2], 20, ignore_eos=True)


def test_a_leaked_block_is_logged_when_the_engine_falls_idle(caplog):
    engine = make_engine()
    engine.add("a", [1, 2], SamplingParams(max_tokens=1, ignore_eos=True))
    engine._scheduler.pool.take("nobody", 1)
    engine.step()
    assert "KV integrity check failed while idle" in caplog.text


@pytest.mark.parametrize(
    "config",
    [{"ctx_size": CTX_SIZE + 1}, {"ctx_size": 1}, {"max_batch": 0}, {"step_tokens": 0}, {"max_queue": -1}],
    ids=str,
)
def test_a_config_that_cannot_work_is_refused(config):
    with pytest.raises(EspalierError, match=next(iter(config)).replace("ctx_size", "--ctx-size")):
        make_engine(**config)


def test_without_work_a_step_does_nothing():
    assert make_engine().step() == []
