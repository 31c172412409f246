"""LlamaIndex against BASE_URL: chat, stream, completion, tools, an object of the client's own class."""

import sys
from typing import Literal

from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index.llms.openai_like import OpenAILike
from pydantic import BaseModel

BASE = sys.argv[1]
llm = OpenAILike(
    model="scripted",
    api_base=BASE,
    api_key="none",
    is_chat_model=True,
    is_function_calling_model=True,
    max_retries=0,
)


class Weather(BaseModel):
    sky: Literal["clear", "grey"]
    degrees: Literal[20, 21]


def get_weather(city: str) -> str:
    """Of a city."""
    return f"21 degrees in {city}"


hello = [ChatMessage(role="user", content="Say hello, no tools.")]
assert llm.chat(hello).message.content == "Hello from the script."
assert "".join(piece.delta for piece in llm.stream_chat(hello)) == "Hello from the script."
assert llm.complete("Say hello, no tools.").text == "Hello from the script."
told = llm.predict_and_call([FunctionTool.from_defaults(get_weather)], user_msg="What is the weather?")
assert told.response == "21 degrees in Rome", told.response
shaped = llm.as_structured_llm(Weather).complete("Tell the weather.").raw
assert isinstance(shaped, Weather), shaped
print("ok")
