"""Who runs in the next step, for how many tokens, on which KV blocks. Plain Python, no arrays, no clock.

Continuous batching. Every running sequence with one token to compute (decode) gets it in every step; what is
left of step_tokens goes to prefill chunks, oldest request first, and then to new requests, first come first
served, while the pool has blocks for their whole prompt. Blocks are taken as a sequence grows. When they run
out, the youngest running sequence loses its blocks, goes back to the head of the queue and is computed again
from its tokens; its answer so far stays. The oldest is never robbed and always fits the pool, so every step
moves it on, and every request in turn becomes the oldest: nothing starves.

A step may be scheduled while the one before it is under way (`schedule_ahead`), where only tokens are missing.
"""

from collections import deque
from collections.abc import Callable, Sequence

from engine.block_pool import BlockPool
from engine.errors import QueueFullError
from engine.request import Request
from engine.slot_pool import SlotPool
from engine.work import Work

MAX_RETRY_AFTER_S = 60


#: Guesses of the tokens that follow a request's known ones; it may give fewer than n_most, or none.
Draft = Callable[[Request, int], Sequence[int]]
#: A decode step of up to so many tokens a sequence can be recorded (forward.py).
MAX_DRAFTS = 7


class Scheduler:
    """Owns every unfinished request. Running and waiting together are always in order of arrival."""

    def __init__(
        self,
        pool: BlockPool,
        *,
        max_batch: int,
        step_tokens: int,
        max_queue: int,
        draft: Draft | None = None,
        n_slots: int = 0,
    ) -> None:
        """n_slots: recurrent states, one for each running sequence; 0 where the model keeps none."""
        assert n_slots == 0 or max_batch <= n_slots, "more sequences may run than have a recurrent state"
        self.pool = pool
        self.slots = SlotPool(n_slots)
        self._draft = draft
        self.max_batch = max_batch
        # At least one token for each running sequence: then neither a decode nor a prefill waits in vain.
        self.step_tokens = max(step_tokens, max_batch)
        self.max_queue = max_queue
        self.running: list[Request] = []  # oldest first
        self.waiting: deque[Request] = deque()
        self._by_id: dict[str, Request] = {}
        self._n_arrived = 0

    @property
    def has_work(self) -> bool:
        return bool(self._by_id)

    @property
    def requests(self) -> list[Request]:
        """Every unfinished request, oldest first."""
        return [*self.running, *self.waiting]

    def holds(self, request: Request) -> bool:
        """It has not been removed."""
        return self._by_id.get(request.request_id) is request

    def check_room(self) -> None:
        """Raises QueueFullError when max_batch + max_queue requests are already here."""
        if len(self._by_id) < self.max_batch + self.max_queue:
            return
        # Nobody knows how long the answers will be; a guess of one second for each full batch ahead.
        retry_after_s = min(1 + len(self.waiting) // self.max_batch, MAX_RETRY_AFTER_S)
        raise QueueFullError(
            f"the server is busy: {len(self.running)} requests are running and {len(self.waiting)} wait; "
            f"try again in {retry_after_s} s",
            retry_after_s=retry_after_s,
        )

    def add(self, request: Request) -> None:
        """Queue it. Raises QueueFullError, and ValueError for an id that is in use."""
        self.check_room()
        if request.request_id in self._by_id:
            raise ValueError(f"request id {request.request_id!r} is already in use")
        n_most = request.n_prompt + request.max_new_tokens
        assert self.pool.blocks_for(n_most) <= self.pool.n_blocks, "a request that the pool can never hold"
        request.arrival = self._n_arrived
        self._n_arrived += 1
        self._by_id[request.request_id] = request
        self.waiting.append(request)

    def remove(self, request_id: str) -> None:
        """It is finished or aborted, in whatever phase: its blocks are free at once. Unknown id: nothing."""
        request = self._by_id.pop(request_id, None)
        if request is None:
            return
        self._release(request)
        (self.running if request in self.running else self.waiting).remove(request)

    def schedule(self) -> list[Work]:
        """The work of the next step, at most one piece for each sequence. Never empty while there is work."""
        n_decode = sum(request.n_pending == 1 for request in self.running)
        budget = self.step_tokens - n_decode  # tokens beyond the one that each decoding sequence gets
        works: list[Work] = []
        for i, request in enumerate(tuple(self.running)):
            if i >= len(self.running):
                break  # it lost its blocks to an older one, and so did all after it
            decodes = request.n_pending == 1
            n_tokens = 1 if decodes else min(request.n_pending, budget)
            if n_tokens and self._grow(request, n_tokens):
                drafts = self._drafts_of(request, budget) if decodes else ()
                works.append(Work(request, n_tokens, drafts))
                budget -= len(drafts) if decodes else n_tokens
        return works + self._admit(budget)

    def schedule_ahead(self, under_way: Sequence[Work]) -> list[Work]:
        """The step after one whose tokens are not known yet; empty where it would not be what `schedule` gives then.

        That is: everyone who runs decodes, nobody can be admitted, nobody loses blocks and nobody drafts. Who ends at
        max_new_tokens is left out; who ends for another reason shows later, and is computed one step too many.
        Blocks are taken.
        """
        here = [work for work in under_way if self.holds(work.request)]
        if self._draft is not None or not all(work.reaches_end for work in here):
            return []
        following = [w.request for w in here if w.request.n_output + 1 < w.request.max_new_tokens]
        if self.waiting and (len(following) < len(here) or self._can_admit()):
            return []
        if sum(self._n_missing(request, request.n_pending + 1) for request in following) > self.pool.n_free:
            return []
        for request in following:
            self._grow(request, request.n_pending + 1)
        return [Work(request, 1) for request in following]

    def give_back_surplus(self, request: Request) -> None:
        """Return the blocks that only rejected drafts needed. The next token's block stays."""
        n_kept = self.pool.blocks_for(request.n_computed + 1)
        surplus = request.block_ids[n_kept:]
        if surplus:
            del request.block_ids[n_kept:]
            self.pool.give_back(request.request_id, surplus)

    def preempt_all(self) -> None:
        """Every running request goes back to the queue: what has been computed of them is not to be relied on."""
        while self.running:
            self._preempt_youngest()

    def check_integrity(self) -> None:
        """AssertionError unless blocks, tables, order and counts agree."""
        everyone = self.requests
        arrivals = [request.arrival for request in everyone]
        assert len(self.running) <= self.max_batch, "more sequences run than a batch holds"
        assert arrivals == sorted(set(arrivals)), "running and waiting are out of order"
        assert {r.request_id: r for r in everyone} == self._by_id, "a request is lost or stands in two queues"
        for request in self.waiting:
            assert (request.block_ids, request.n_computed) == ([], 0), "a waiting request holds KV"
            assert request.state_slot is None, "a waiting request holds a recurrent state"
        for request in self.running:
            room = len(request.block_ids) * self.pool.block_size
            assert request.n_computed <= room, "a request has computed more tokens than its blocks hold"
        self.pool.check_integrity({r.request_id: r.block_ids for r in everyone if r.block_ids})
        self.slots.check_integrity({r.request_id: r.state_slot for r in everyone if r.state_slot is not None})

    def _drafts_of(self, request: Request, n_most: int) -> tuple[int, ...]:
        """Guesses that fit into n_most tokens, the answer and the free blocks: nobody loses blocks for them.

        A guide has none: it says what may follow a token only when that is chosen.
        """
        n_most = min(n_most, MAX_DRAFTS, request.max_new_tokens - request.n_output - 1)
        if self._draft is None or n_most < 1 or request.guide is not None:
            return ()
        drafts = tuple(self._draft(request, n_most)[:n_most])
        if not drafts or self._n_missing(request, 1 + len(drafts)) > self.pool.n_free:
            return ()
        self._grow(request, 1 + len(drafts))
        return drafts

    def _admit(self, budget: int) -> list[Work]:
        """First pieces of waiting requests, in order, while tokens, seats and blocks last."""
        works = []
        while budget and self._can_admit():
            request = self.waiting.popleft()
            self.running.append(request)
            request.state_slot = self.slots.take(request.request_id)
            n_tokens = min(request.n_pending, budget)
            self._grow(request, n_tokens)
            budget -= n_tokens
            works.append(Work(request, n_tokens))
        return works

    def _can_admit(self) -> bool:
        """There is a seat, and room for all pending tokens of the first request that waits; later ones wait for it.

        One free block is left to each running sequence to grow into: without that margin a newcomer would often be
        preempted before its first token. Running sequences need no other: while a prompt lacks blocks, its chunks
        take all of step_tokens, and nobody is admitted. Neither is anybody in a step that has preempted a request:
        that one waits at the head, and of the blocks it gave up at least one has been taken.
        """
        if not self.waiting or len(self.running) == self.max_batch:
            return False
        n_unclaimed = self.pool.n_free - len(self.running)
        return self.pool.blocks_for(self.waiting[0].n_pending) <= n_unclaimed

    def _grow(self, request: Request, n_tokens: int) -> bool:
        """Blocks for its next n_tokens, the youngest's if need be. False: it was itself the youngest."""
        n_missing = self._n_missing(request, n_tokens)
        while n_missing > self.pool.n_free:
            if self._preempt_youngest() is request:
                return False
        request.block_ids += self.pool.take(request.request_id, n_missing)
        return True

    def _n_missing(self, request: Request, n_tokens: int) -> int:
        """Blocks it needs for its next n_tokens. It may hold more: for a step ahead that failed."""
        return max(self.pool.blocks_for(request.n_computed + n_tokens) - len(request.block_ids), 0)

    def _preempt_youngest(self) -> Request:
        """The youngest running request goes back to the head of the queue, without blocks."""
        request = self.running.pop()
        self._release(request)
        self.waiting.appendleft(request)
        return request

    def _release(self, request: Request) -> None:
        """What it holds of the caches is free at once."""
        self.pool.give_back(request.request_id, request.block_ids)
        self.slots.give_back(request.request_id, request.state_slot)
        request.block_ids, request.state_slot = [], None
        request.n_computed = 0
