"""Sixteen requests side by side. The server batches them; each answer is what it would have been alone."""

import asyncio
import time

from openai import AsyncOpenAI

QUESTIONS = (
    "What is GGUF?",
    "What is a KT quant?",
    "How do I load my own model?",
    "Do you speak the OpenAI API?",
)


async def ask(client: AsyncOpenAI, model: str, question: str) -> str:
    completion = await client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": question}], temperature=0, max_tokens=60
    )
    return completion.choices[0].message.content or ""


async def main() -> None:
    async with AsyncOpenAI() as client:
        model = (await client.models.list()).data[0].id
        alone = [await ask(client, model, question) for question in QUESTIONS]
        started = time.perf_counter()
        together = await asyncio.gather(*(ask(client, model, question) for question in QUESTIONS * 4))
        seconds = time.perf_counter() - started
    assert together == alone * 4, "an answer changed in company"
    print(f"{len(together)} answers in {seconds:.2f} s, each the same as alone")


asyncio.run(main())
