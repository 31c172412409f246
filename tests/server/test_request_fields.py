"""Every field that a client may send: honoured, of no local meaning, or refused by name; nothing dropped silently."""

import typing
from typing import Any

import httpx
import openai
import pytest
from openai.types import completion_create_params
from openai.types.chat import completion_create_params as chat_create_params

from engine import SamplingParams
from server.errors import ApiError
from server.schemas import fields as schema_fields
from server.schemas.chat import chat_request
from server.schemas.completions import completion_request
from server.schemas.field_table import FIELDS
from server.schemas.fields import CHAT, COMPLETIONS, EMPTY, UNKNOWN_FIELDS, RequestField, Use
from server.schemas.values import MAX_COUNT
from support.server_process import ServerProcess

READERS = {CHAT: chat_request, COMPLETIONS: completion_request}
BODIES: dict[str, dict[str, Any]] = {
    CHAT: {"messages": [{"role": "user", "content": "the inn"}]},
    COMPLETIONS: {"prompt": "the inn"},
}
GREEDY = {"temperature": 0, "max_tokens": 3, "ignore_eos": True}
#: A value that asks for something, for the refused fields whose first try would be taken for another type.
ASKING = ({"some": "thing"}, [17], "something", 17, -17.5, True)
#: Parameters of the engine whose fields are still refused.
UNSERVED = {"logprobs", "sampler_order"}
ROWS = [(route, name, field) for route in READERS for name, field in FIELDS.of_route(route).items()]


def read(route: str, **extra: Any) -> Any:
    return READERS[route](BODIES[route] | extra)


def refusal(route: str, **extra: Any) -> ApiError:
    with pytest.raises(ApiError) as caught:
        read(route, **extra)
    assert caught.value.status == 400
    return caught.value


def rows(use: Use) -> list[tuple[str, str, RequestField]]:
    return [row for row in ROWS if row[2].use is use and not row[2].required]


@pytest.mark.parametrize(
    ("route", "params"), [(CHAT, chat_create_params), (COMPLETIONS, completion_create_params)]
)
def test_every_field_of_the_official_sdk_is_in_the_table(route: str, params: Any) -> None:
    for kind in ("CompletionCreateParamsNonStreaming", "CompletionCreateParamsStreaming"):
        assert typing.get_type_hints(getattr(params, kind)).keys() <= FIELDS.of_route(route).keys()


@pytest.mark.parametrize("route", READERS)
def test_a_name_is_in_the_table_once(route: str) -> None:
    names = [name for field in FIELDS.fields if route in field.routes for name in field.names]
    assert len(names) == len(set(names))


def test_values_that_ask_for_nothing_change_nothing() -> None:
    for route, name, field in ROWS:
        if field.required:
            continue
        plain = read(route)
        for value in (*EMPTY, *field.nothing):
            if value is False and (field.false_asks or field.kind is schema_fields.BOOLEAN):
                continue
            assert read(route, **{name: value}) == plain, (route, name, value)


def test_fields_without_a_local_meaning_change_nothing_whatever_their_value() -> None:
    for route, name, _ in rows(Use.ACCEPTED):
        for value in ASKING:
            assert read(route, **{name: value}) == read(route), (route, name)


def test_refused_fields_are_refused_by_name_with_what_would_work() -> None:
    penalty = {"repetition_penalty": 1.1}  # or the range of penalties is of no effect
    for route, name, field in rows(Use.REFUSED):
        for value in ASKING:
            if not field.asks_for_nothing(value):
                error = refusal(route, **penalty, **{name: value})
                assert (error.param, error.code) == (name, "unsupported_value"), (route, name)
                assert error.message.startswith(name)
                assert "leave it out" in error.message
        if field.false_asks:
            assert refusal(route, **penalty, **{name: False}).param == name


def test_honoured_fields_of_a_wrong_type_are_refused_by_name() -> None:
    for route, name, _ in rows(Use.HONOURED):
        errors = [refusal(route, **{name: [[]]})]
        assert all((error.param or "").split(".")[0] == name for error in errors), (route, name)
        assert all(len(error.body()) < 4096 for error in errors)


@pytest.mark.parametrize("route", READERS)
def test_every_parameter_of_the_sampler_can_be_set_by_a_field(route: str) -> None:
    keys = {
        field.key or field.names[0] for field in FIELDS.of_route(route).values() if field.use is Use.HONOURED
    }
    assert set(SamplingParams.__dataclass_fields__) - UNSERVED <= keys


@pytest.mark.parametrize(
    ("given", "parameter", "value"),
    [
        ({"n_predict": 3}, "max_tokens", 3),
        ({"max_new_tokens": 3, "max_tokens": 5}, "max_tokens", 5),
        ({"max_tokens": 5, "max_completion_tokens": 7}, "max_tokens", 7),
        ({"max_tokens": 12.0}, "max_tokens", 12),
        ({"max_tokens": 0}, "max_tokens", 0),
        ({"max_tokens": -1}, "max_tokens", None),
        ({"max_tokens": 10**400}, "max_tokens", MAX_COUNT),
        ({"max_tokens": 1e10}, "max_tokens", MAX_COUNT),
        ({"top_k": 40.0}, "top_k", 40),
        ({"top_k": -1}, "top_k", 0),
        ({"top_p": 0}, "top_p", 0.0),
        ({"temperature": 2.5}, "temperature", 2.5),
        ({"seed": -1}, "seed", None),
        ({"seed": -2}, "seed", -2),
        ({"seed": 7.0}, "seed", 7),
        ({"sampler_seed": 7}, "seed", 7),
        ({"repeat_penalty": 1.5}, "repetition_penalty", 1.5),
        ({"rep_pen": 1.5, "repetition_penalty": 1.2}, "repetition_penalty", 1.2),
        ({"logit_bias": {"5": 1, "6.0": -2.5}}, "logit_bias", {5: 1.0, 6: -2.5}),
        ({"logit_bias": [[5, 1], [6.0, -100]]}, "logit_bias", {5: 1.0, 6: -100.0}),
        ({"logit_bias": []}, "logit_bias", {}),
        ({"min_new_tokens": 4.0}, "min_tokens", 4),
        ({"ban_eos_token": True, "max_tokens": 9}, "min_tokens", 9),
        ({"ban_eos_token": True, "max_tokens": -1}, "min_tokens", MAX_COUNT),
        ({"ban_eos_token": False}, "min_tokens", 0),
        ({"allowed_token_ids": [5, 6.0]}, "allowed_token_ids", {5, 6}),
        ({"allowed_token_ids": []}, "allowed_token_ids", None),
    ],
)
@pytest.mark.parametrize("route", READERS)
def test_other_names_and_other_spellings_mean_the_same(
    route: str, given: dict[str, Any], parameter: str, value: Any
) -> None:
    assert getattr(read(route, **given).params, parameter) == value


@pytest.mark.parametrize("route", READERS)
def test_stop_strings_of_all_fields_add_up_and_empty_ones_stop_nothing(route: str) -> None:
    asked = read(route, stop="a", stopping_strings=["b", "", "a", None], stop_sequences=["c"])
    assert asked.stops == ("a", "b", "c")
    assert len(read(route, stop=[str(i) for i in range(128)]).stops) == 128
    assert refusal(route, stop=[str(i) for i in range(129)]).param == "stop"
    half = [str(i) for i in range(100)]
    assert refusal(route, stop=half, stop_strings=[f"x{i}" for i in half]).param == "stop"


def test_tools_that_may_not_be_called_ask_for_nothing() -> None:
    tools = [{"type": "function", "function": {"name": "f"}}]
    assert read(CHAT, tools=tools, tool_choice="none") == read(CHAT)
    assert read(CHAT, functions=tools, function_call="none") == read(CHAT)
    assert read(CHAT, tools=[{"type": 3}], tool_choice="none") == read(CHAT)
    assert read(CHAT, tools=[], tool_choice="auto", parallel_tool_calls=False) == read(CHAT)
    assert refusal(COMPLETIONS, tools=tools).param == "tools"
    assert refusal(CHAT, tool_choice="required").param == "tool_choice"


TOOLS = [{"type": "function", "function": {"name": name}} for name in ("f", "g", "h")]


@pytest.mark.parametrize(
    ("given", "names", "choice", "named"),
    [
        ({}, "fgh", "auto", None),
        ({"tool_choice": "required"}, "fgh", "required", None),
        ({"tool_choice": {"type": "function", "function": {"name": "g"}}}, "g", "required", "g"),
        ({"tool_choice": {"type": "function", "name": "g"}}, "g", "required", "g"),
        (
            {
                "tool_choice": {
                    "type": "allowed_tools",
                    "allowed_tools": {
                        "mode": "required",
                        "tools": [TOOLS[0], {"type": "function", "name": "h"}],
                    },
                }
            },
            "fh",
            "required",
            None,
        ),
    ],
)
def test_the_choice_says_which_tools_may_be_called(
    given: dict[str, Any], names: str, choice: str, named: str | None
) -> None:
    use = read(CHAT, tools=TOOLS, **given).tool_use
    assert ("".join(tool.name for tool in use.tools), use.choice, use.named) == (names, choice, named)
    assert [tool["function"]["name"] for tool in use.told] == ["f", "g", "h"]
    assert use.parallel
    assert not use.is_legacy


def test_functions_are_tools_of_which_one_is_called() -> None:
    use = read(CHAT, functions=[{"name": "f"}, {"name": "g"}], function_call={"name": "g"}).tool_use
    assert (use.is_legacy, use.parallel, use.named, use.places) == (True, False, "g", ("functions.[1]",))


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"tools": "f"}, "tools"),
        ({"tools": [1]}, "tools.[0]"),
        ({"tools": [{"type": "web_search"}]}, "tools.[0].type"),
        ({"tools": [{"type": "function"}]}, "tools.[0].name"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools.[0].function.name"),
        ({"tools": [{"type": "function", "function": {"name": "x" * 129}}]}, "tools.[0].function.name"),
        ({"tools": [{"type": "function", "function": {"name": "<|im_end|>"}}]}, "tools.[0].function.name"),
        ({"tools": [*TOOLS, TOOLS[0]]}, "tools.[3]"),
        ({"tools": TOOLS * 50}, "tools"),
        (
            {"tools": [{"function": {"name": "f", "parameters": {"type": "array"}}}]},
            "tools.[0].function.parameters",
        ),
        ({"tools": [{"function": {"name": "f", "parameters": [1]}}]}, "tools.[0].function.parameters"),
        ({"tools": [{"function": {"name": "f", "strict": 1}}]}, "tools.[0].function.strict"),
        ({"tools": [{"function": {"name": "f", "description": "x" * (1 << 20)}}]}, "tools"),
        ({"tools": TOOLS, "tool_choice": "always"}, "tool_choice"),
        ({"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "x"}}}, "tool_choice"),
        ({"tools": TOOLS, "tool_choice": {"type": "allowed_tools"}}, "tool_choice.allowed_tools"),
        ({"tools": TOOLS, "parallel_tool_calls": "no"}, "parallel_tool_calls"),
        ({"functions": [{"name": ""}]}, "functions.[0].name"),
    ],
)
def test_tools_that_cannot_be_are_refused_by_their_place(given: dict[str, Any], param: str) -> None:
    assert refusal(CHAT, **given).param == param


def test_the_range_of_penalties_is_refused_only_beside_a_penalty() -> None:
    assert read(CHAT, repeat_last_n=64, repeat_penalty=1.0).params == SamplingParams(repetition_penalty=1.0)
    assert read(CHAT, repeat_last_n=-1, repeat_penalty=1.1)
    assert refusal(CHAT, repeat_last_n=64, frequency_penalty=0.5).param == "repeat_last_n"


@pytest.mark.parametrize(
    ("given", "thinking"),
    [
        ({"enable_thinking": False}, False),
        ({"enable_thinking": True}, True),
        ({"reasoning_effort": "none"}, False),
        ({"reasoning": {"effort": "none"}}, False),
        ({"reasoning": {"enabled": True}}, True),
        ({"reasoning": {"effort": None}}, None),
        ({"thinking": {"type": "disabled"}}, False),
        ({"think": False}, False),
        ({"chat_template_kwargs": {"enable_thinking": False}}, False),
        ({"chat_template_kwargs": {"thinking": True}}, True),
        ({"reasoning_effort": "none", "enable_thinking": True}, False),
        ({"reasoning_format": "auto", "thinking_budget": -1}, None),
    ],
)
def test_thinking_is_switched_by_the_chat_template(given: dict[str, Any], thinking: bool | None) -> None:
    expected = {} if thinking is None else {"enable_thinking": thinking, "thinking": thinking}
    assert read(CHAT, **given).thinking.variables == expected


@pytest.mark.parametrize(
    ("given", "budget", "told", "variables"),
    [
        ({"reasoning_effort": "low"}, None, "apart", {"reasoning_effort": "low", "enable_thinking": True}),
        ({"reasoning": {"effort": "high", "max_tokens": 9}}, 9, "apart", {"reasoning_effort": "high"}),
        ({"reasoning": {"exclude": True}}, None, "hidden", {}),
        ({"thinking": {"type": "enabled", "budget_tokens": 100}}, 100, "apart", {"thinking": True}),
        ({"thinking_budget_tokens": 0}, 0, "apart", {}),
        ({"max_reasoning_tokens": 7, "reasoning_budget": 8}, 8, "apart", {}),
        ({"include_reasoning": False}, None, "hidden", {}),
        ({"separate_reasoning": False}, None, "inline", {}),
        ({"reasoning_format": "none"}, None, "inline", {}),
        ({"chat_template_kwargs": {"style": {"a": [1]}, "x": None}}, None, "apart", {"style": {"a": [1]}}),
    ],
)
def test_how_much_is_thought_and_how_it_is_told(
    given: dict[str, Any], budget: int | None, told: str, variables: dict[str, Any]
) -> None:
    thinking = read(CHAT, **given).thinking
    assert (thinking.budget, thinking.told) == (budget, told)
    assert variables.items() <= thinking.variables.items()


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"reasoning_effort": "huge"}, "reasoning_effort"),
        ({"reasoning": {"effort": 3}}, "reasoning.effort"),
        ({"reasoning": {"max_tokens": -2}}, "reasoning.max_tokens"),
        ({"thinking": {"type": "enabled", "budget_tokens": "a"}}, "thinking.budget_tokens"),
        ({"chat_template_kwargs": {"messages": [1]}}, "chat_template_kwargs.messages"),
        ({"chat_template_kwargs": {"bos_token": "x"}}, "chat_template_kwargs.bos_token"),
        ({"chat_template_kwargs": {"a b": 1}}, "chat_template_kwargs"),
        ({"chat_template_kwargs": {f"v{i}": 1 for i in range(65)}}, "chat_template_kwargs"),
        ({"chat_template_kwargs": {"v": "x" * (1 << 16)}}, "chat_template_kwargs"),
        ({"thinking_budget_tokens": 1.5}, "thinking_budget_tokens"),
        ({"reasoning_format": "plain"}, "reasoning_format"),
    ],
)
def test_what_no_thinking_can_be_is_refused(given: dict[str, Any], param: str) -> None:
    assert refusal(CHAT, **given).param == param


def test_stream_options_without_a_stream_may_only_ask_for_nothing() -> None:
    for options in (
        None,
        {},
        {"include_usage": False},
        {"include_usage": None},
        {"include_obfuscation": True},
    ):
        assert read(CHAT, stream_options=options) == read(CHAT)
    for options in ({"include_usage": True}, {"continuous_usage_stats": True}):
        assert refusal(CHAT, stream_options=options).param == "stream_options"
        assert read(CHAT, stream_options=options, stream=True).stream
    wrong = {"include_usage": 1}
    assert refusal(CHAT, stream_options=wrong, stream=True).param == "stream_options.include_usage"


def test_a_field_in_no_table_is_counted_each_time_and_named_once(caplog: pytest.LogCaptureFixture) -> None:
    schema_fields._named.clear()
    before = UNKNOWN_FIELDS._value.get()
    for _ in range(3):
        assert read(CHAT, no_such_field=1, **{"evil\x1b[31m": 2}) == read(CHAT)
    assert UNKNOWN_FIELDS._value.get() == before + 6
    assert caplog.text.count("no_such_field") == 1
    assert "\x1b" not in caplog.text
    assert len(caplog.records) == 2


def test_the_log_remembers_a_bounded_number_of_names() -> None:
    read(CHAT, **{f"made_up_{i}": i for i in range(10_000)})
    assert len(schema_fields._named) == schema_fields.MAX_NAMED
    schema_fields._named.add("one more, of another thread")
    assert read(CHAT, made_up=1) == read(CHAT)


def post(server: ServerProcess, route: str, **extra: Any) -> httpx.Response:
    return httpx.post(f"{server.url}/v1/{route}", json=BODIES[route] | GREEDY | extra)


@pytest.mark.parametrize("route", READERS)
def test_a_client_that_sends_every_field_neutrally_is_answered(server: ServerProcess, route: str) -> None:
    optional = {name: f for name, f in FIELDS.of_route(route).items() if not f.required}
    plain = post(server, route).json()["choices"]
    for pick in (0, -1):
        neutral = {name: (None, *f.nothing)[pick] for name, f in optional.items() if name not in GREEDY}
        answer = post(server, route, **neutral)
        assert answer.status_code == 200, answer.text
        assert answer.json()["choices"] == plain


@pytest.mark.parametrize("name", ["", "tiny:latest", "openai/tiny", "a/b/tiny:q4", None])
def test_names_of_the_served_model(server: ServerProcess, name: str | None) -> None:
    answer = post(server, CHAT, model=name)
    assert answer.status_code == 200
    assert answer.json()["model"] == "tiny"


@pytest.mark.parametrize("name", ["other", "tiny/other", "atiny", "tiny2:latest", ":tiny", "/"])
def test_other_models_are_not_found_and_the_served_one_is_named(server: ServerProcess, name: str) -> None:
    answer = post(server, CHAT, model=name)
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "model_not_found"
    assert "tiny" in answer.json()["error"]["message"]


def test_the_official_client_sends_the_peers_fields_beside_its_own(server: ServerProcess) -> None:
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)
    common: dict[str, Any] = {"model": "", "messages": BODIES[CHAT]["messages"], "temperature": 0}
    done = client.chat.completions.create(**common, extra_body={"n_predict": 4, "ignore_eos": True})
    assert done.usage is not None
    assert done.usage.completion_tokens == 4
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(**common, extra_body={"mirostat": 2})
    assert refused.value.param == "mirostat"
    options: Any = {"continuous_usage_stats": True}
    extra = {"ignore_eos": True}
    stream = client.chat.completions.create(
        **common, max_tokens=3, stream=True, stream_options=options, extra_body=extra
    )
    counts = [chunk.usage.completion_tokens for chunk in stream if chunk.usage]
    assert counts == sorted(counts)
    assert counts[-1] == 3


@pytest.mark.parametrize("route", READERS)
def test_an_answer_may_have_no_tokens_or_end_with_the_context(server: ServerProcess, route: str) -> None:
    def answered(max_tokens: float) -> tuple[str, str, int]:
        answer = post(server, route, max_tokens=max_tokens).json()
        choice, usage = answer["choices"][0], answer["usage"]
        text = choice["text"] if route == COMPLETIONS else choice["message"]["content"]
        return text, choice["finish_reason"], usage["total_tokens"]

    assert answered(0)[:2] == ("", "length")
    for more_than_fit in (4096, 1e10, -1):
        assert answered(more_than_fit)[1:] == ("length", 512)
    body = BODIES[route] | {"max_tokens": 0, "stream": True}
    events = httpx.post(f"{server.url}/v1/{route}", json=body).text
    assert '"finish_reason":"length"' in events
    assert events.endswith("data: [DONE]\n\n")


def test_a_share_of_nothing_is_the_likeliest_token_and_any_temperature_gives_tokens(
    server: ServerProcess,
) -> None:
    greedy = post(server, COMPLETIONS, temperature=0).json()["choices"]
    assert post(server, COMPLETIONS, temperature=2.5, top_p=0).json()["choices"] == greedy
    for temperature in (1e-300, 2.5, 1e308):
        answer = post(server, COMPLETIONS, temperature=temperature).json()
        assert answer["usage"]["completion_tokens"] == GREEDY["max_tokens"]


def test_only_the_allowed_tokens_are_chosen(server: ServerProcess) -> None:
    def text(**extra: Any) -> str:
        return post(server, COMPLETIONS, **extra).json()["choices"][0]["text"]

    assert text(allowed_token_ids=[300]) == text(logit_bias={"300": 100}, seed=1) != text()
    wrong = post(server, COMPLETIONS, allowed_token_ids=[10**6])
    assert wrong.json()["error"]["param"] == "allowed_token_ids"


def test_a_least_length_above_the_limit_is_refused(server: ServerProcess) -> None:
    assert post(server, COMPLETIONS, min_tokens=3).status_code == 200
    assert post(server, COMPLETIONS, min_tokens=4).json()["error"]["param"] == "min_tokens"
