"""The official Python SDK: tools, parsed answers, stream helpers, everything beside. Calls are a scripted model's."""

import json
from typing import Any, Literal

import openai
import pytest
from pydantic import BaseModel

MODEL = "scripted"
USER: Any = [{"role": "user", "content": "What is the weather?"}]
TOOLS: Any = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "Of a city.",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
                "required": ["city"],
            },
        },
    },
    {"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": {}}}},
]


class Weather(BaseModel):
    sky: Literal["clear", "grey"]
    degrees: Literal[20, 21]


@pytest.fixture(scope="module")
def client(base_url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=base_url, api_key="none", max_retries=0)


@pytest.fixture
def aclient(base_url: str) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=base_url, api_key="none", max_retries=0)


def test_an_agent_calls_a_tool_and_tells_its_result(client: openai.OpenAI) -> None:
    """The whole loop: the model chooses to call, the client answers, the model tells."""
    messages = list(USER)
    first = client.chat.completions.create(model=MODEL, messages=messages, tools=TOOLS)
    choice = first.choices[0]
    assert choice.finish_reason == "tool_calls"
    [call] = choice.message.tool_calls or []
    assert call.type == "function"
    assert call.function.name == "get_weather"
    assert json.loads(call.function.arguments) == {"city": "Rome", "days": 3}
    messages += [choice.message, {"role": "tool", "tool_call_id": call.id, "content": "21 degrees"}]
    second = client.chat.completions.create(model=MODEL, messages=messages, tools=TOOLS)
    assert second.choices[0].message.content == "It says: 21 degrees."
    assert second.choices[0].finish_reason == "stop"


def test_several_calls_come_in_one_answer_or_one_alone(client: openai.OpenAI) -> None:
    both: Any = [{"role": "user", "content": "Do both."}]
    two = client.chat.completions.create(model=MODEL, messages=both, tools=TOOLS).choices[0].message
    assert [call.function.name for call in two.tool_calls or []] == ["get_weather", "now"]
    one = client.chat.completions.create(model=MODEL, messages=both, tools=TOOLS, parallel_tool_calls=False)
    assert [call.function.name for call in one.choices[0].message.tool_calls or []] == ["get_weather"]


def test_tools_that_are_not_needed_are_not_called(client: openai.OpenAI) -> None:
    messages: Any = [{"role": "user", "content": "Say hello, no tools."}]
    for choice in ("auto", "none"):
        told = client.chat.completions.create(model=MODEL, messages=messages, tools=TOOLS, tool_choice=choice)
        assert told.choices[0].message.content == "Hello from the script."
        assert told.choices[0].message.tool_calls is None


def test_the_stream_helper_joins_calls_and_contents(client: openai.OpenAI) -> None:
    both: Any = [{"role": "user", "content": "Do both."}]
    with client.chat.completions.stream(model=MODEL, messages=both, tools=TOOLS) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_completion()
    assert "tool_calls.function.arguments.delta" in kinds
    calls = final.choices[0].message.tool_calls or []
    assert [(call.function.name, json.loads(call.function.arguments)) for call in calls] == [
        ("get_weather", {"city": "Rome", "days": 3}),
        ("now", {}),
    ]


def test_parse_gives_an_object_of_the_clients_own_class(client: openai.OpenAI) -> None:
    told = client.chat.completions.parse(model=MODEL, messages=USER, response_format=Weather, temperature=0)
    assert isinstance(told.choices[0].message.parsed, Weather)


def test_parse_gives_a_tools_arguments_as_the_clients_own_class(client: openai.OpenAI) -> None:
    tool: Any = openai.pydantic_function_tool(Weather, name="report")
    told = client.chat.completions.parse(model=MODEL, messages=USER, tools=[tool], tool_choice="required")
    [call] = told.choices[0].message.tool_calls or []
    assert isinstance(call.function.parsed_arguments, Weather)


async def test_the_async_client_streams_and_parses(aclient: openai.AsyncOpenAI) -> None:
    async with aclient.chat.completions.stream(model=MODEL, messages=USER, response_format=Weather) as stream:
        async for _ in stream:
            pass
        final = await stream.get_final_completion()
    assert isinstance(final.choices[0].message.parsed, Weather)
    told = await aclient.chat.completions.create(model=MODEL, messages=USER, tools=TOOLS)
    assert told.choices[0].finish_reason == "tool_calls"


def test_older_functions_are_called(client: openai.OpenAI) -> None:
    functions = [tool["function"] for tool in TOOLS]
    told = client.chat.completions.create(model=MODEL, messages=USER, functions=functions)
    choice = told.choices[0]
    assert choice.finish_reason == "function_call"
    assert choice.message.function_call is not None
    assert choice.message.function_call.name == "get_weather"


def test_every_field_of_the_sdk_is_taken(client: openai.OpenAI) -> None:
    told = client.chat.completions.create(
        model=MODEL,
        messages=USER,
        n=2,
        logprobs=True,
        top_logprobs=3,
        seed=1,
        stop=["zzz"],
        logit_bias={"5": 1},
        max_completion_tokens=5,
        temperature=0.5,
        top_p=0.9,
        frequency_penalty=0.1,
        presence_penalty=0.1,
        user="me",
        metadata={"a": "b"},
        store=False,
        service_tier="auto",
        reasoning_effort="low",
        verbosity="low",
        prompt_cache_key="x",
        safety_identifier="y",
        modalities=["text"],
        response_format={"type": "text"},
        parallel_tool_calls=True,
        prediction={"type": "content", "content": "Hello"},
    )
    assert len(told.choices) == 2
    assert told.choices[0].logprobs is not None
    assert len((told.choices[0].logprobs.content or [])[0].top_logprobs) == 3


def test_completions_have_their_own_fields(client: openai.OpenAI) -> None:
    told = client.completions.create(
        model=MODEL, prompt="the inn", echo=True, logprobs=2, n=2, best_of=3, max_tokens=4, seed=1, user="me"
    )
    assert len(told.choices) == 2
    assert told.choices[0].text.startswith("the inn")
    assert told.choices[0].logprobs is not None
    assert (told.choices[0].logprobs.token_logprobs or [])[0] is None


def test_raw_responses_have_the_requests_id(client: openai.OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(model=MODEL, messages=USER)
    assert raw.headers["x-request-id"]
    assert raw.parse().choices[0].message.content == "Hello from the script."


def test_errors_are_of_the_right_classes(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as tools:
        client.chat.completions.create(
            model=MODEL, messages=USER, tools=[{"type": "function", "function": {"name": "a b"}}]
        )
    assert tools.value.param == "tools.[0].function.name"
    bad: Any = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object", "not": {}}}}
    with pytest.raises(openai.BadRequestError) as schema:
        client.chat.completions.create(model=MODEL, messages=USER, response_format=bad)
    assert schema.value.code == "invalid_constraint"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("other")
