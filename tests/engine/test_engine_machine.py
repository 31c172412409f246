"""A Hypothesis state machine over the real engine and a fake model (scorecard R23).

Whatever is added, aborted and stepped in whatever order: every block is accounted for after every rule, each
answer equals the one worked out alone, and with no new arrivals everything ends in a bounded number of steps.
"""

import os

import pytest
from hypothesis import HealthCheck, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from engine.engine import Engine
from engine.errors import QueueFullError
from engine.types import EngineConfig, SamplingParams
from support.asynchronous_ops import AsynchronousOps
from support.fake_model import N_VOCAB, STATE, FakeModel, FakeOps, fake_loaded, solo_answer

CTX_SIZE = 40


class EngineMachine(RuleBasedStateMachine):
    """Small numbers on purpose: few blocks, few seats, short queues, so that everything collides."""

    @initialize(
        block_size=st.integers(1, 8),
        max_batch=st.integers(1, 6),
        step_tokens=st.integers(1, 24),
        max_queue=st.integers(0, 6),
        spare_blocks=st.integers(0, 6),
        looks_ahead=st.booleans(),
        keeps_state=st.booleans(),
    )
    def start(self, block_size, max_batch, step_tokens, max_queue, spare_blocks, looks_ahead, keeps_state):
        self.block_size, self.max_queue, self.max_batch = block_size, max_queue, max_batch
        self.model = FakeModel(block_size, keeps_state)
        self.ops = AsynchronousOps() if looks_ahead else FakeOps()
        n_blocks = -(-CTX_SIZE // block_size) + spare_blocks
        self.engine = Engine(
            fake_loaded(self.model, CTX_SIZE, self.ops),
            EngineConfig(
                max_batch=max_batch,
                kv_memory_bytes=n_blocks * 4 * block_size + keeps_state * STATE.slot_bytes * max_batch,
                kv_block_size=block_size,
                step_tokens=step_tokens,
                max_queue=max_queue,
            ),
        )
        stats = self.engine.stats()
        assert stats.n_blocks == n_blocks or keeps_state, "states take half of the pool at most"
        assert bool(stats.n_slots) == keeps_state
        self.step_limit = max(step_tokens, max_batch)
        self.open: dict[str, tuple[list[int], int, bool]] = {}
        self.answers: dict[str, list[int]] = {}
        self.n_added = 0

    @rule(
        n_prompt=st.integers(1, 9) | st.integers(1, CTX_SIZE - 1),
        first_id=st.integers(0, N_VOCAB - 1),
        max_tokens=st.integers(0, CTX_SIZE) | st.just(CTX_SIZE),
        ignore_eos=st.booleans(),
    )
    def add(self, n_prompt, first_id, max_tokens, ignore_eos):
        prompt = [(first_id + i * i) % N_VOCAB for i in range(n_prompt)]
        max_tokens = min(max_tokens, CTX_SIZE - n_prompt)
        name = f"r{self.n_added}"
        self.n_added += 1
        params = SamplingParams(temperature=0, max_tokens=max_tokens, ignore_eos=ignore_eos)
        is_full = len(self.open) == self.max_batch + self.max_queue
        try:
            self.engine.add(name, prompt, params)
        except QueueFullError:
            assert is_full
            return
        assert not is_full
        self.open[name] = (prompt, max_tokens, ignore_eos)
        self.answers[name] = []

    @rule(data=st.data())
    def abort(self, data):
        name = data.draw(st.sampled_from([*sorted(self.open), "unknown"]))
        self.engine.abort(name)
        self.open.pop(name, None)

    @rule(n=st.integers(1, 6))
    def step(self, n):
        for _ in range(n):
            for event in self.engine.step():
                self.take(event)

    @precondition(lambda self: self.open)
    @rule(goes_on=st.booleans(), at_read=st.booleans())
    def the_device_fails(self, goes_on, at_read):
        if at_read and isinstance(self.ops, AsynchronousOps):
            self.ops.fail_next_read = True
        else:
            self.model.fail_next = True
        with pytest.raises(RuntimeError, match="the device is gone"):
            self.step_for_ever()
        self.engine.check_integrity()
        if goes_on:
            return
        ended = [event.request_id for event in self.engine.fail_all("the device is gone")]
        assert sorted(ended) == sorted(self.open)
        self.open.clear()

    def step_for_ever(self):
        """The launch of a step may lie behind it, but there is always another."""
        while True:
            self.step(1)
            if not self.open:
                self.engine.add("last", [1], SamplingParams(temperature=0, max_tokens=1))
                self.open["last"], self.answers["last"] = ([1], 1, False), []

    def take(self, event):
        assert event.request_id in self.open, "an event for a request that is aborted or finished"
        self.answers[event.request_id] += event.token_ids
        if event.finish_reason is not None:
            asked = self.open.pop(event.request_id)
            assert (self.answers[event.request_id], event.finish_reason) == solo_answer(*asked)

    @invariant()
    def every_block_is_accounted_for(self):
        if hasattr(self, "engine"):
            self.engine.check_integrity()
            assert self.model.largest_step <= self.step_limit
            stats = self.engine.stats()
            assert stats.n_waiting + stats.n_running == len(self.open)

    def teardown(self):
        if not hasattr(self, "engine"):
            return
        # The oldest computes at least one token a step and is never robbed: at most ctx_size steps for each.
        for _ in range(CTX_SIZE * (len(self.open) + 1)):
            self.step(1)
        assert not self.engine.has_work
        assert not self.open
        stats = self.engine.stats()
        assert (stats.n_free_blocks, stats.n_free_slots) == (stats.n_blocks, stats.n_slots)


def run(n_examples: int, n_rules: int, number: int = 0) -> None:
    """number: the seed, so that every run of the tests makes the same attempts."""
    run_state_machine_as_test(
        seed(number)(EngineMachine),
        settings=settings(
            max_examples=n_examples,
            stateful_step_count=n_rules,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_any_order_of_requests_keeps_blocks_and_answers_right():
    run(n_examples=100, n_rules=50)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(1, 1 + int(os.environ.get("ESPALIER_MACHINE_HUNDREDS", "3"))))
def test_any_order_of_requests_at_length(number):
    """The scorecard asks for 10 000 runs of 200 rules: ESPALIER_MACHINE_HUNDREDS=100, about ten minutes."""
    run(n_examples=100, n_rules=200, number=number)
