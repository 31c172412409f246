"""A file of every architecture through the server to the official SDK: who leaves leaves no block and no state."""

import asyncio
import random
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from engine.models import ARCHITECTURES
from support.architectures import MODELS
from support.architectures.random_file import draw_tensors, write_file
from support.in_process import InProcess, new_engine

NAMES = {model.architecture: name for name, model in MODELS.items()}
QUICK = "qwen35moe"  # experts, states and keys and values in one
KNOWN = [
    pytest.param(NAMES[architecture], marks=() if architecture == QUICK else pytest.mark.slow)
    for architecture in ARCHITECTURES
    if architecture in NAMES
]


@pytest.fixture(scope="module", params=KNOWN)
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    model = MODELS[request.param]
    path = write_file(tmp_path_factory.mktemp("model") / "random.gguf", model, draw_tensors(model))
    with InProcess(new_engine(path, ctx_size=96)) as server:
        yield server


async def text_of(
    client: openai.AsyncOpenAI, seed: int, n_tokens: int, leave_after: int | None
) -> str | None:
    """None after leaving at that many pieces of text."""
    body: dict[str, Any] = {"model": "random", "max_tokens": n_tokens, "seed": seed}
    stream = await client.completions.create(
        prompt="the inn and the others", stream=True, extra_body={"ignore_eos": True}, **body
    )
    text = ""
    async with stream:
        n = 0
        async for chunk in stream:
            text, n = text + chunk.choices[0].text, n + 1
            if n == leave_after:
                return None
    return text


async def test_sixteen_streams_with_random_leavers_leave_nothing_behind(running: InProcess) -> None:
    rng = random.Random(0)
    lengths = [rng.randint(10, 60) for _ in range(16)]
    leavers = [rng.choice([None, None, rng.randint(1, 9)]) for _ in lengths]
    async with openai.AsyncOpenAI(base_url=f"{running.url}/v1", api_key="none", max_retries=0) as client:
        together = await asyncio.gather(
            *(
                text_of(client, i, n, leaver)
                for i, (n, leaver) in enumerate(zip(lengths, leavers, strict=True))
            )
        )
        await asyncio.to_thread(running.assert_empty_soon)
        stays = [i for i, leaver in enumerate(leavers) if leaver is None]
        assert stays
        for i in stays[:4]:
            assert together[i] is not None
            assert await text_of(client, i, lengths[i], None) == together[i], "not the text that it has alone"
    stats = await asyncio.to_thread(lambda: running.ask(running.thread.stats()))
    assert stats.n_free_slots == stats.n_slots
