"""Prompts that are too long are refused at once, whatever form they have; texts are worked on in bounded threads."""

import asyncio
import json
import threading
import time
from typing import Any

import httpx
import pytest

from server.body import parse_object
from server.text_pool import LONG_TEXT, TextPool
from support.interpreter_lock import share_of_longest_pause
from support.server_process import ServerProcess

BLOB = "qz" * 500_000
PARTS = [{"type": "text", "text": "qz" * 100} for _ in range(5_000)]
BODIES: dict[str, tuple[str, dict[str, Any]]] = {
    "text": ("completions", {"prompt": BLOB}),
    "texts": ("completions", {"prompt": ["the", BLOB]}),
    "ids": ("completions", {"prompt": [5] * 500_000}),
    "lists of ids": ("completions", {"prompt": [[5], [5] * 500_000]}),
    "content": ("chat/completions", {"messages": [{"role": "user", "content": BLOB}]}),
    "parts": ("chat/completions", {"messages": [{"role": "user", "content": PARTS}]}),
    "messages": ("chat/completions", {"messages": [{"role": "user", "content": "qz" * 500}] * 1000}),
}


@pytest.mark.parametrize("kind", BODIES)
def test_a_megabyte_that_cannot_fit_is_refused_with_the_context_error(
    server: ServerProcess, kind: str
) -> None:
    route, body = BODIES[kind]
    answer = httpx.post(f"{server.url}/v1/{route}", json=body, timeout=30)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["code"] == "context_length_exceeded"
    assert "maximum context length is 512 tokens" in error["message"]
    assert len(answer.content) < 1000
    if "ids" not in kind:
        assert "at least" in error["message"]


def test_work_learns_that_nobody_waits_for_it_any_more() -> None:
    ended: list[bool] = []
    started = threading.Event()

    def work(cancelled: threading.Event) -> None:
        started.set()
        ended.append(cancelled.wait(10))

    async def leave() -> None:
        task = asyncio.create_task(TextPool().run(1, work))
        await asyncio.to_thread(started.wait, 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(leave())
    end = time.monotonic() + 10
    while not ended and time.monotonic() < end:
        time.sleep(0.01)
    assert ended == [True]


def test_short_texts_do_not_wait_for_long_ones_and_long_ones_are_few_at_once() -> None:
    gate, running, most = threading.Event(), [0], [0]
    lock = threading.Lock()

    def long(_: threading.Event) -> None:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        gate.wait(10)
        with lock:
            running[0] -= 1

    async def scenario() -> str:
        pool = TextPool()
        tasks = [asyncio.create_task(pool.run(LONG_TEXT + 1, long)) for _ in range(50)]
        await asyncio.sleep(0.05)
        answer = await asyncio.wait_for(pool.run(10, lambda _: "short"), 5)
        gate.set()
        await asyncio.gather(*tasks)
        return answer

    assert asyncio.run(scenario()) == "short"
    assert 1 <= most[0] <= 4


def test_other_threads_run_while_a_long_list_of_numbers_is_parsed() -> None:
    """Half a million token ids and as many fractions."""
    raw = json.dumps({"prompt": list(range(500_000)), "x": [0.5] * 500_000}).encode()
    assert share_of_longest_pause(lambda: parse_object(raw)) < 0.6
