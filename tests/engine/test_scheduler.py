"""Who runs next: decodes first, then prefill by age, blocks on demand, the youngest makes room."""

import copy
import random

import pytest

from engine.block_pool import BlockPool
from engine.errors import QueueFullError
from engine.request import Request
from engine.scheduler import MAX_RETRY_AFTER_S, Scheduler
from engine.types import SamplingParams
from engine.work import Work


def make_scheduler(
    n_blocks=100, block_size=4, max_batch=4, step_tokens=16, max_queue=100, n_slots=0
) -> Scheduler:
    pool = BlockPool(n_blocks, block_size)
    return Scheduler(pool, max_batch=max_batch, step_tokens=step_tokens, max_queue=max_queue, n_slots=n_slots)


def add(scheduler: Scheduler, name: str, n_prompt: int, max_new_tokens: int = 8) -> Request:
    request = Request(name, SamplingParams(), 0, list(range(n_prompt)), n_prompt, max_new_tokens)
    scheduler.add(request)
    return request


def step(scheduler: Scheduler) -> dict[str, int]:
    """One step: {request id: tokens}."""
    chunks = scheduler.schedule()
    take_in(scheduler, chunks)
    return {chunk.request.request_id: chunk.n_tokens for chunk in chunks}


def test_a_step_scheduled_ahead_is_the_one_that_would_be_scheduled_when_its_tokens_are_known():
    """Or none: requests of all sizes that come while others run, few blocks, few seats, small steps."""
    n_ahead = 0
    for number in range(300):
        rng = random.Random(number)
        scheduler = make_scheduler(
            rng.randrange(12, 40), rng.randrange(1, 5), rng.randrange(1, 5), rng.randrange(1, 16)
        )
        for i in range(40):
            if rng.random() < 0.2:
                add(scheduler, f"r{i}", rng.randrange(1, 6), rng.randrange(1, 7))
            under_way = scheduler.schedule()
            alone = copy.deepcopy(scheduler)
            tokens = alone.schedule_ahead(
                [c._replace(request=alone._by_id[c.request.request_id]) for c in under_way]
            )
            alone.check_integrity()
            take_in(scheduler, under_way)
            for request in scheduler.requests:
                if request.n_output == request.max_new_tokens:
                    scheduler.remove(request.request_id)
            if tokens:
                n_ahead += 1
                following = copy.deepcopy(scheduler).schedule()
                assert [t.request.request_id for t in tokens] == [c.request.request_id for c in following]
                assert all(work.n_tokens == 1 and work.reaches_end for work in following)
    assert n_ahead > 1000


def take_in(scheduler: Scheduler, works: list[Work]) -> None:
    """What an imaginary model does: who reached its last token gains one."""
    for work in works:
        work.request.accept(work.n_tokens, [0] if work.reaches_end else [])
    scheduler.check_integrity()


def test_no_work_no_chunks():
    scheduler = make_scheduler()
    assert scheduler.schedule() == []
    assert not scheduler.has_work


def test_a_long_prompt_runs_in_chunks_and_then_decodes():
    scheduler = make_scheduler()
    add(scheduler, "a", 35)
    assert [step(scheduler) for _ in range(4)] == [{"a": 16}, {"a": 16}, {"a": 3}, {"a": 1}]


def test_decodes_come_before_prefill_of_any_age():
    scheduler = make_scheduler(step_tokens=10)
    add(scheduler, "long", 30)
    add(scheduler, "short", 5)
    # "long" is older, so it prefills first; once "short" decodes, it is never held up.
    assert [step(scheduler) for _ in range(4)] == [
        {"long": 10},
        {"long": 10},
        {"long": 10},
        {"long": 1, "short": 5},
    ]
    add(scheduler, "third", 40)
    assert step(scheduler) == {"long": 1, "short": 1, "third": 8}
    assert step(scheduler) == {"long": 1, "short": 1, "third": 8}


def test_a_step_shares_its_tokens_among_prompts():
    scheduler = make_scheduler(step_tokens=16)
    for name in "abc":
        add(scheduler, name, 7)
    assert step(scheduler) == {"a": 7, "b": 7, "c": 2}
    assert step(scheduler) == {"a": 1, "b": 1, "c": 5}


def test_a_step_has_room_for_every_running_sequence():
    scheduler = make_scheduler(step_tokens=1, max_batch=3)
    for name in "abc":
        add(scheduler, name, 1)
    assert step(scheduler) == step(scheduler) == {"a": 1, "b": 1, "c": 1}


def test_max_batch_limits_what_runs():
    scheduler = make_scheduler(max_batch=2)
    for name in "abc":
        add(scheduler, name, 1)
    assert step(scheduler) == {"a": 1, "b": 1}
    scheduler.remove("a")
    assert step(scheduler) == {"b": 1, "c": 1}


def test_admission_waits_for_blocks_in_order_of_arrival():
    scheduler = make_scheduler(n_blocks=8, step_tokens=64)
    add(scheduler, "a", 18)  # five blocks
    add(scheduler, "b", 16)  # four: too many beside "a"
    add(scheduler, "c", 1)  # would fit, and waits its turn
    assert step(scheduler) == {"a": 18}
    assert step(scheduler) == {"a": 1}
    scheduler.remove("a")
    assert step(scheduler) == {"b": 16, "c": 1}


def test_a_prompt_in_pieces_leaves_no_room_for_others_before_its_last_block():
    scheduler = make_scheduler(n_blocks=10, step_tokens=8)
    add(scheduler, "a", 25)  # seven blocks, two in the first step
    add(scheduler, "b", 12)
    assert [step(scheduler) for _ in range(3)] == [{"a": 8}, {"a": 8}, {"a": 8}]
    assert step(scheduler) == {"a": 1}
    assert scheduler.pool.n_free == 3, "there was room for b's three blocks, but then none to grow into"


def test_requests_are_admitted_only_where_nobody_has_to_give_way_for_them():
    """By any mix of prompts and answers in a small pool: no request is admitted in a step that takes the blocks of
    another, nor before every running prompt holds all of its blocks, nor without a block for each to grow into."""
    n_admitted = n_preempted = 0
    for number in range(200):
        rng = random.Random(number)
        block_size = rng.randrange(1, 5)
        scheduler = make_scheduler(
            -(-12 // block_size) + rng.randrange(3), block_size, rng.randrange(1, 6), rng.randrange(1, 24)
        )
        for i in range(60):
            if rng.random() < 0.3:
                add(scheduler, f"r{i}", rng.randrange(1, 6), rng.randrange(1, 7))
            ran = list(scheduler.running)
            chunks = scheduler.schedule()
            lost = [request for request in ran if request not in scheduler.running]
            *before, newest = scheduler.running or [None]
            if newest and newest not in ran:
                n_admitted += 1
                n_free = scheduler.pool.n_free + len(newest.block_ids)
                assert not lost
                assert n_free >= scheduler.pool.blocks_for(newest.n_pending) + len(before)
                for request in before:
                    assert len(request.block_ids) >= scheduler.pool.blocks_for(len(request.token_ids))
            n_preempted += len(lost)
            take_in(scheduler, chunks)
            for request in scheduler.requests:
                if request.n_output == request.max_new_tokens:
                    scheduler.remove(request.request_id)
    assert n_admitted > 1000
    assert n_preempted > 100


def test_the_youngest_makes_room_and_is_computed_again_with_its_answer():
    scheduler = make_scheduler(n_blocks=5, step_tokens=64)
    a, b = add(scheduler, "a", 7, 12), add(scheduler, "b", 3, 12)
    seen = [step(scheduler) for _ in range(6)]
    assert seen[0] == {"a": 7, "b": 3}
    assert b.n_output == 6
    b_tokens = list(b.token_ids)
    while b in scheduler.running:
        step(scheduler)
    assert a in scheduler.running
    assert b is scheduler.waiting[0]
    assert (b.n_computed, b.block_ids) == (0, [])
    assert b.token_ids[: len(b_tokens)] == b_tokens, "the answer so far is kept"
    n_tokens = len(b.token_ids)
    scheduler.remove("a")
    assert step(scheduler) == {"b": n_tokens}, "prompt and answer are computed again in one chunk"


def test_the_oldest_is_never_robbed():
    scheduler = make_scheduler(n_blocks=6, max_batch=4)
    oldest = add(scheduler, "oldest", 4, 20)
    for name in "bcd":
        add(scheduler, name, 4, 20)
    while oldest.n_output < 20:
        n_before = oldest.n_computed
        assert "oldest" in step(scheduler)
        assert oldest.n_computed > n_before
    assert [r.request_id for r in scheduler.requests] == ["oldest", "b", "c", "d"]


@pytest.mark.parametrize("phase", ["queued", "prefill", "decode", "preempted"])
def test_remove_frees_every_block_in_every_phase(phase):
    scheduler = make_scheduler(n_blocks=6, max_batch=2, step_tokens=8)
    add(scheduler, "a", 12, 12)
    b = add(scheduler, "b", 3, 12)
    reached = {
        "queued": lambda: b in scheduler.waiting,
        "prefill": lambda: 0 < scheduler.requests[0].n_computed < 12,
        "decode": lambda: b.n_output > 0 and b in scheduler.running,
        "preempted": lambda: b.n_output > 0 and b in scheduler.waiting,
    }[phase]
    for _ in range(40):
        if reached():
            break
        step(scheduler)
    assert reached()
    for name in ("b", "a", "b", "unknown"):
        scheduler.remove(name)
        scheduler.check_integrity()
    assert scheduler.pool.n_free == 6
    assert not scheduler.has_work


def test_the_queue_has_an_end():
    scheduler = make_scheduler(max_batch=2, max_queue=3)
    for i in range(5):
        add(scheduler, f"r{i}", 1)
    with pytest.raises(QueueFullError, match="0 requests are running and 5 wait") as caught:
        add(scheduler, "one too many", 1)
    assert caught.value.retry_after_s == 3
    scheduler.remove("r0")
    add(scheduler, "fits again", 1)


def test_retry_after_has_a_limit():
    scheduler = make_scheduler(max_batch=1, max_queue=500)
    for i in range(501):
        add(scheduler, f"r{i}", 1)
    with pytest.raises(QueueFullError) as caught:
        scheduler.check_room()
    assert caught.value.retry_after_s == MAX_RETRY_AFTER_S


def test_an_id_in_use_is_refused():
    scheduler = make_scheduler()
    add(scheduler, "a", 1)
    with pytest.raises(ValueError, match="'a' is already in use"):
        add(scheduler, "a", 1)


def lose(scheduler: Scheduler) -> None:
    scheduler.waiting.clear()


def stand_twice(scheduler: Scheduler) -> None:
    scheduler.waiting.append(scheduler.running[0])


def overtake(scheduler: Scheduler) -> None:
    scheduler.running.reverse()


def overfill(scheduler: Scheduler) -> None:
    scheduler.running.append(scheduler.waiting.popleft())


def wait_with_blocks(scheduler: Scheduler) -> None:
    scheduler.waiting.appendleft(scheduler.running.pop())


def wait_as_computed(scheduler: Scheduler) -> None:
    scheduler.waiting[0].n_computed = 1


def compute_too_far(scheduler: Scheduler) -> None:
    scheduler.running[0].n_computed = 5


def forget_a_block(scheduler: Scheduler) -> None:
    scheduler.running[0].block_ids.clear()
    scheduler.running[0].n_computed = 0


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        (lose, "lost or stands in two queues"),
        (stand_twice, "out of order"),
        (overtake, "out of order"),
        (overfill, "more sequences run than a batch holds"),
        (wait_with_blocks, "a waiting request holds KV"),
        (wait_as_computed, "a waiting request holds KV"),
        (compute_too_far, "more tokens than its blocks hold"),
        (forget_a_block, "tables and the pool's owners differ"),
    ],
)
def test_integrity_finds(damage, found):
    """Each kind of damage by its own check: two run, one block of four tokens each, and one waits."""
    scheduler = make_scheduler(max_batch=2)
    for name in "abc":
        add(scheduler, name, 3)
    step(scheduler)
    damage(scheduler)
    with pytest.raises(AssertionError, match=found):
        scheduler.check_integrity()


def test_each_running_sequence_has_a_recurrent_state_of_its_own_until_it_ends_or_is_preempted() -> None:
    """Requests of all sizes over few blocks: some end, some are aborted, some are preempted and run again."""
    n_preempted = 0
    for number in range(60):
        rng = random.Random(number)
        scheduler = make_scheduler(rng.randrange(4, 9), 4, max_batch=3, step_tokens=8, n_slots=4)
        for i in range(60):
            if rng.random() < 0.4:
                add(scheduler, f"r{i}", rng.randrange(1, 9), rng.randrange(1, 9))
            before = {r.request_id for r in scheduler.running}
            take_in(scheduler, scheduler.schedule())
            scheduler.check_integrity()
            n_preempted += len(before - {r.request_id for r in scheduler.running})
            slots = [request.state_slot for request in scheduler.running]
            assert len(set(slots)) == len(slots) == 4 - scheduler.slots.n_free
            assert None not in slots
            for request in scheduler.requests:
                if request.n_output == request.max_new_tokens or rng.random() < 0.05:
                    scheduler.remove(request.request_id)
        for request in scheduler.requests:
            scheduler.remove(request.request_id)
        assert scheduler.slots.n_free == 4
    assert n_preempted > 20


def test_a_model_without_a_recurrent_state_gives_no_slots() -> None:
    scheduler = make_scheduler()
    request = add(scheduler, "a", 3)
    step(scheduler)
    assert request.state_slot is None
