"""pydantic-ai against BASE_URL: an agent with a tool, its stream, and an output of the client's own class."""

import asyncio
import sys
from typing import Literal

from pydantic import BaseModel
from pydantic_ai import Agent, NativeOutput, ToolOutput
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

MODEL = OpenAIChatModel("scripted", provider=OpenAIProvider(base_url=sys.argv[1], api_key="none"))


class Weather(BaseModel):
    sky: Literal["clear", "grey"]
    degrees: Literal[20, 21]


async def main() -> None:
    agent = Agent(MODEL)
    asked = []

    @agent.tool_plain
    def get_weather(city: str) -> str:
        """Of a city."""
        asked.append(city)
        return "21 degrees"

    told = await agent.run("What is the weather?")
    assert (told.output, asked) == ("It says: 21 degrees.", ["Rome"]), told.output
    async with agent.run_stream("What is the weather?") as stream:
        assert await stream.get_output() == "It says: 21 degrees."
    assert told.usage.output_tokens > 0 if not callable(told.usage) else told.usage().output_tokens > 0
    for output in (NativeOutput(Weather), ToolOutput(Weather)):
        shaped = await Agent(MODEL, output_type=output).run("Tell the weather.")
        assert isinstance(shaped.output, Weather), shaped.output


asyncio.run(main())
print("ok")
