"""LiteLLM against BASE_URL, as a gateway uses it: both ways of naming a server, streams, tools, forms, errors."""

import json
import sys

import litellm

BASE = sys.argv[1]
litellm.telemetry = False
USER = [{"role": "user", "content": "What is the weather?"}]
PLAIN = [{"role": "user", "content": "Hello, no tools."}]
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS = [{"type": "function", "function": {"name": "get_weather", "parameters": PARAMETERS}}]


def ask(model, messages, **fields):
    return litellm.completion(
        model=model, messages=messages, api_base=BASE, api_key="none", max_retries=0, **fields
    )


for model in ("openai/scripted", "hosted_vllm/scripted"):
    told = ask(model, PLAIN)
    assert told.choices[0].message.content == "Hello from the script.", told
    assert told.usage.completion_tokens > 0
    chunks = list(ask(model, PLAIN, stream=True, stream_options={"include_usage": True}))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == "Hello from the script.", text
    call = ask(model, USER, tools=TOOLS).choices[0]
    assert call.finish_reason == "tool_calls", call
    assert json.loads(call.message.tool_calls[0].function.arguments) == {"city": "Rome"}
    rebuilt = litellm.stream_chunk_builder(list(ask(model, USER, tools=TOOLS, stream=True)), messages=USER)
    [streamed] = rebuilt.choices[0].message.tool_calls
    assert (streamed.function.name, json.loads(streamed.function.arguments)) == (
        "get_weather",
        {"city": "Rome"},
    )
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"enum": ["red"]}, "strict": True}}
    assert json.loads(ask(model, PLAIN, response_format=form).choices[0].message.content) == "red"
    try:
        ask(model, [{"role": "user", "content": "word " * 20_000}])
    except litellm.ContextWindowExceededError:
        pass
    else:
        raise AssertionError("a prompt beyond the context was taken")
    try:
        ask(model, PLAIN, temperature=-1)
    except litellm.BadRequestError:
        pass
    else:
        raise AssertionError("a wrong temperature was taken")
print("ok")
