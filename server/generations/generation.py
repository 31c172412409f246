"""All choices of one client request, from their admission to their last piece. It runs once.

Streams and whole answers, of every dialect, are made from the same pieces.
"""

import asyncio
import math
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace

from engine import PromptReads, TokenEvent
from engine.text.tokenizer import Tokenizer
from server.engine_thread import EngineThread, EventQueue
from server.errors import ApiError
from server.generations.choice import Ask, Choice
from server.generations.pieces import Piece, joined
from server.generations.prompts import Prompt
from server.generations.usage import Clock, Usage


class Generation:
    """ask.best_of choices for each prompt, of which the `n` likeliest are told. `close` is owed after `begin`."""

    def __init__(
        self,
        thread: EngineThread,
        tokenizer: Tokenizer,
        prompts: Sequence[Prompt],
        ask: Ask,
        *,
        seconds: float = 3600.0,
    ) -> None:
        """seconds: how long it may take from `begin` on. Raises RequestError for prompts that cannot be answered:
        nothing may look at a prompt's tokens before the engine has."""
        for prompt in prompts:
            thread.engine.validate(prompt.token_ids, ask.params)
        self.ask = ask
        self.prompts = prompts
        self._thread = thread
        self._seconds = seconds
        self._events = EventQueue()
        self._deadline = math.inf
        self.clock = Clock(0.0)
        self.choices = [
            Choice(tokenizer, prompt, ask, i * ask.best_of + j)
            for i, prompt in enumerate(prompts)
            for j in range(ask.best_of)
        ]

    async def begin(self) -> None:
        """Admit every choice, or none. Raises RequestError or ApiError before a byte has been sent."""
        now = asyncio.get_running_loop().time()
        self.clock, self._deadline = Clock(now), now + self._seconds
        try:
            for choice in self.choices:
                await self._submit(choice)
        except BaseException:
            self.close()
            raise

    async def _submit(self, choice: Choice) -> None:
        """The choices of one prompt have seeds in a row, the first one the client's."""
        ask, params = self.ask, self.ask.params
        place = choice.index % ask.best_of
        if params.seed is not None and place:
            params = replace(params, seed=(params.seed + place) % (1 << 64))
        # What all choices know of one prompt is read for the first of them, unless each one echoes it.
        reads = ask.prompt_logprobs if ask.echo or place == 0 else None
        await self._thread.submit(
            choice.request_id,
            choice.prompt.token_ids,
            params,
            self._events,
            reads=PromptReads(logprobs=reads, progress=ask.progress and choice.index == 0),
            guide=ask.guide(choice.prompt) if ask.guide is not None else None,
        )

    def close(self) -> None:
        """Abort what has not ended."""
        for choice in self.choices:
            choice.is_open = False
            self._thread.abort(choice.request_id)

    @property
    def usage(self) -> Usage:
        """So far. A prompt counts once, however many choices it has."""
        firsts = self.choices[:: self.ask.best_of]
        return Usage(
            sum(len(prompt.token_ids) for prompt in self.prompts),
            sum(choice.n_cached for choice in firsts),
            sum(choice.n_completion for choice in self.choices),
            sum(choice.n_reasoning for choice in self.choices),
        )

    @property
    def ms_so_far(self) -> float:
        return self.clock.ms_since_start(asyncio.get_running_loop().time())

    @property
    def timings(self) -> dict[str, float | int]:
        return self.clock.timings(self.usage)

    async def answers(self) -> list[Piece]:
        """Each choice that is told as one piece, numbered anew."""
        pieces: list[list[Piece]] = [[] for _ in self.choices]
        async for arrived in self.pieces():
            for piece in arrived:
                pieces[piece.index].append(piece)
        told = [choice for group in self._groups() for choice in self._best(group)]
        return [replace(joined(pieces[choice.index]), index=i) for i, choice in enumerate(told)]

    def _groups(self) -> list[list[Choice]]:
        """The choices of each prompt."""
        size = self.ask.best_of
        return [self.choices[i : i + size] for i in range(0, len(self.choices), size)]

    def _best(self, choices: Sequence[Choice]) -> list[Choice]:
        """The n likeliest, by the sum of their tokens' log-probabilities; the likeliest first."""
        if self.ask.best_of == self.ask.n:
            return list(choices)
        return sorted(choices, key=lambda choice: -choice.logprob_sum)[: self.ask.n]

    async def pieces(self, *, wake_seconds: float = math.inf) -> AsyncIterator[list[Piece]]:
        """The pieces of all choices, in lists of those that came together: after each step of the engine for a client
        that keeps up, more at once for one that does not. Every wake_seconds in which the consumer waits there is
        an empty list.

        Raises ApiError when one of them fails or the deadline passes, and that ends all.
        """
        by_id = {choice.request_id: choice for choice in self.choices}
        loop = asyncio.get_running_loop()
        timer = _Timer(self._events, wake_seconds, self._deadline)
        try:
            while any(choice.is_open for choice in self.choices):
                events = await self._events.take()
                if any(event.token_ids or event.finish_reason for event in events):
                    self.clock.tick(loop.time())
                pieces, failure = self._taken(events, by_id)
                if pieces or not events:
                    yield pieces
                if failure is not None:
                    raise failure
                if loop.time() >= self._deadline:
                    raise ApiError(504, "the request took longer than this server allows", code="timeout")
        finally:
            timer.cancel()

    def _taken(
        self, events: Sequence[TokenEvent], by_id: Mapping[str, Choice]
    ) -> tuple[list[Piece], ApiError | None]:
        """What came before a failure is told before it."""
        pieces: list[Piece] = []
        for event in events:
            choice = by_id[event.request_id]
            try:
                piece = choice.take(event)
            except ApiError as error:
                return pieces, error
            if not choice.is_open:
                self._thread.abort(choice.request_id)
            if piece is not None:
                pieces.append(piece)
        return pieces, None


class _Timer:
    """Wakes the consumer of a queue every `seconds`, and at the deadline."""

    def __init__(self, events: EventQueue, seconds: float, deadline: float) -> None:
        self._events, self._seconds, self._deadline = events, seconds, deadline
        self._loop = asyncio.get_running_loop()
        self._handle: asyncio.TimerHandle
        self._set()

    def cancel(self) -> None:
        self._handle.cancel()

    def _set(self) -> None:
        self._handle = self._loop.call_at(min(self._loop.time() + self._seconds, self._deadline), self._wake)

    def _wake(self) -> None:
        self._events.wake()
        if self._loop.time() < self._deadline:
            self._set()
