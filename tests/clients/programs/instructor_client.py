"""instructor against BASE_URL: objects of the client's own class, by each of its ways to ask for them."""

import sys
from typing import Literal

import instructor
import openai
from pydantic import BaseModel

BASE = sys.argv[1]


class Weather(BaseModel):
    sky: Literal["clear", "grey"]
    degrees: Literal[20, 21]


def client(mode):
    return instructor.from_openai(openai.OpenAI(base_url=BASE, api_key="none", max_retries=0), mode=mode)


for mode in ("TOOLS", "TOOLS_STRICT", "JSON", "JSON_SCHEMA", "MD_JSON", "PARALLEL_TOOLS"):
    kind = getattr(instructor.Mode, mode)
    wanted = list[Weather] if mode == "PARALLEL_TOOLS" else Weather
    if mode == "PARALLEL_TOOLS":
        from collections.abc import Iterable

        wanted = Iterable[Weather]
    told = client(kind).chat.completions.create(
        model="scripted",
        messages=[{"role": "user", "content": "The weather is clear and has 20 degrees."}],
        response_model=wanted,
        max_retries=0,
    )
    told = next(iter(told)) if mode == "PARALLEL_TOOLS" else told
    assert isinstance(told, Weather), (mode, told)
print("ok")
