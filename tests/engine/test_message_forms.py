"""Messages reach each template in the form it can read. Each template here has one trait of a published one."""

import json
from typing import Any

import pytest

from engine.errors import RequestError
from engine.text.chat_template import ChatTemplate
from engine.text.messages import MAX_NESTING, texts_of
from engine.text.tokenizer import load_tokenizer
from support.chat_templates import ALL, CHATML, MISTRAL
from support.vocabularies import CONTROL, pieces_with, spm_metadata

TOKENIZER = load_tokenizer(spm_metadata(pieces_with(("<|im_end|>", 0.0, CONTROL))))
SYSTEM = {"role": "system", "content": "Be brief."}
USER = {"role": "user", "content": "Hi"}
ANSWER = {"role": "assistant", "content": "Yes."}
NEXT = {"role": "user", "content": "and?"}
#: An answer as the OpenAI SDK's model_dump() gives it back.
DUMPED: dict[str, Any] = ANSWER | dict.fromkeys(
    ("refusal", "annotations", "audio", "function_call", "tool_calls")
)

ROLES = "{% for m in messages %}[{{ m.role }} {{ m.content }}]{% endfor %}"
ALTERNATING = (
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}[{{ m.role }} {{ m.content }}]{% endfor %}"
)


def render(source: str, messages: list[dict[str, Any]], **extra: Any) -> str:
    return ChatTemplate(source, TOKENIZER).render(messages, extra=extra)


def call(arguments: Any, **fields: Any) -> dict[str, Any]:
    function = {"name": "weather", "arguments": arguments}
    calls = [{"id": "call00001", "type": "function", "function": function, "index": None}]
    return {"role": "assistant", "content": None, "tool_calls": calls} | fields


# How a template writes the arguments of a call, and what must come out for {"x": 1}.
CALLS = "{% for m in messages %}{% for t in m.tool_calls or [] %}CALL{% set a = t.function.arguments %}"
WRITES = {
    "as JSON": ("{{ a | tojson }}", '{"x": 1}'),
    "by item": ("{% for k, v in a.items() %}{{ k }}={{ v }}{% endfor %}", "x=1"),
    "by the filter items": ("{% for k, v in a | items %}{{ k }}={{ v }}{% endfor %}", "x=1"),
    "by its kind": ("{{ a if a is string else a | tojson }}", '{"x": 1}'),
    "refusing text": ("{% if a is string %}{{ raise_exception('text') }}{% endif %}{{ a.x }}", "1"),
    "printed": ("{{ a }}", '{"x": 1}'),
    "concatenated": ("{{ '<' + a + '>' }}", '<{"x": 1}>'),
    "joined": ("{{ '<' ~ a ~ '>' }}", '<{"x": 1}>'),
    "trimmed": ("{{ a | trim }}", '{"x": 1}'),
    "as a string": ("{{ a | string }}", '{"x": 1}'),
    "in a list": ("{{ ['<', a] | join }}", '<{"x": 1}'),
    "with a %": ("{{ '<%s' % a }}", '<{"x": 1}'),
    "formatted": ("{{ '<{}'.format(a) }}", '<{"x": 1}'),
    "by a filter's format": ("{{ '<%s' | format(a) }}", '<{"x": 1}'),
    "from JSON": ("{% for k, v in (a | from_json).items() %}{{ k }}={{ v }}{% endfor %}", "x=1"),
    "from JSON, spelled otherwise": ("{{ (a | fromjson).x }}", "1"),
}


@pytest.mark.parametrize("name", WRITES)
def test_arguments_reach_a_template_as_it_writes_them(name: str) -> None:
    body, expected = WRITES[name]
    source = CALLS + body + "{% endfor %}{{ m.content or '' }}{% endfor %}"
    assert render(source, [USER, call('{"x": 1}')]) == "HiCALL" + expected
    assert render(source, [USER, call({"x": 1})]) == "HiCALL" + expected  # as some clients send them


@pytest.mark.parametrize("arguments", ["", " ", None, "{}"])
def test_no_arguments_are_an_empty_object(arguments: str | None) -> None:
    assert render(CALLS + "{{ a | tojson }}{% endfor %}{% endfor %}", [USER, call(arguments)]) == "CALL{}"


@pytest.mark.parametrize(
    "arguments", ['{"x": ', "[1]", '"x"', "NaN", '{"x": 1e400}', '{"x": NaN}', '{"x": ' + "9" * 5000 + "}"]
)
def test_what_is_no_json_object_stays_the_text_it_was(arguments: str) -> None:
    source = CALLS + "{{ a }}{% endfor %}{% endfor %}"
    assert render(source, [USER, call(arguments)]) == "CALL" + arguments
    with pytest.raises(
        RequestError, match=r"messages\.\[1\] has a tool call whose arguments are no JSON object"
    ):
        render(CALLS + "{{ a | items }}{% endfor %}{% endfor %}", [USER, call(arguments)])


def test_a_users_escapes_in_arguments_make_no_control_token() -> None:
    """JSON can spell any character by its number, so what is parsed passes the guard anew."""
    arguments = json.dumps({"x": "<|im_end|>"}).replace("<", "\\u003c")
    for body in ("{{ a.x }}", "{{ (a | from_json).x }}", "{{ a | tojson(ensure_ascii=true) }}"):
        chat = ChatTemplate(CALLS + body + "{% endfor %}{% endfor %}", TOKENIZER)
        ids = chat.encode([USER, call(arguments)])
        assert not any(map(TOKENIZER.is_control, ids[1:])), body  # the first is BOS


def test_json_in_ascii_shows_no_mark() -> None:
    text = "é<|im_end|>\\ufdd0\\\\"
    assert render("{{ messages[0].content | tojson(ensure_ascii=True) }}", [USER | {"content": text}]) == (
        json.dumps(text)
    )


def test_null_and_empty_keys_of_an_answer_sent_back_are_left_out() -> None:
    source = (
        "{% for m in messages %}{{ m.content }}{% if m.tool_calls is defined %}{{ m.tool_calls | length }}"
        "{% endif %}{% if 'function_call' in m %}{{ m.function_call.name }}{% endif %}{% endfor %}"
    )
    assert render(source, [USER, DUMPED, NEXT]) == "HiYes.and?"
    empty = ANSWER | {"tool_calls": [], "refusal": "", "audio": {}}
    assert render("{{ messages[1] | tojson }}{{ messages[0].content }}", [USER, empty]) == (
        json.dumps({"role": "assistant", "content": "Yes."}) + "Hi"
    )
    kept = ANSWER | {"content": "", "weight": 0, "seen": False}
    assert render("{{ messages[1] | tojson }}", [USER, kept]) == json.dumps(
        {"role": "assistant", "weight": 0, "seen": False, "content": ""}
    )
    assert '"index"' not in render("{{ messages[1] | tojson }}", [USER, call("{}")])


# A null content: what a template does with it, and what it writes between brackets.
NULLS = {
    "printed": ("{{ m.content }}", "[]"),
    "concatenated": ("{{ '<' + m.content + '>' }}", "[<>]"),
    "trimmed": ("{{ m.content | trim }}", "[]"),
    "a string's method": ("{{ m.content.strip() }}", "[]"),
    "searched": ("{% if '</think>' in m.content %}x{% endif %}", "[]"),
    "measured": ("{{ m.content | length }}", "[0]"),
    "alone as JSON": ("{{ m.content | tojson }}", '[""]'),
    "tested": ("{{ 'null' if m.content is none else m.content }}", "[null]"),
    "tested by another name": ("{% set c = m.content %}{{ 'null' if c == None else c }}", "[null]"),
    "another key is tested": (
        "{% if m.reasoning_content is not none and m.reasoning_content is defined %}{{ m.reasoning_content }}"
        "{% elif '</think>' in m.content %}x{% else %}{{ m.content }}{% endif %}",
        "[]",
    ),
}


@pytest.mark.parametrize("name", NULLS)
@pytest.mark.parametrize("message", [{"role": "assistant", "content": None}, {"role": "assistant"}])
def test_a_null_content_is_null_where_that_can_be_read(name: str, message: dict[str, Any]) -> None:
    body, expected = NULLS[name]
    source = "{{ messages[0].content }}{% for m in messages[1:] %}[" + body + "]{% endfor %}"
    assert render(source, [USER, message]) == "Hi" + expected


def test_an_answer_that_only_calls_is_known_by_its_null() -> None:
    """DeepSeek R1's template adds the arguments to a text and writes the call only beside a null content."""
    text = render(ALL["deepseek-r1"], [USER, call('{"x": 1}'), {"role": "tool", "content": "sun"}])
    assert 'weather\n{"x": 1}' in text


def test_a_refused_system_message_goes_into_the_users() -> None:
    assert render(ALTERNATING, [SYSTEM, USER]) == "[user Be brief.\n\nHi]"
    assert render(ALTERNATING, [SYSTEM, SYSTEM, USER, ANSWER, NEXT]) == (
        "[user Be brief.\n\nBe brief.\n\nHi][assistant Yes.][user and?]"
    )
    assert (
        render(ALTERNATING, [{"role": "developer", "content": "Be brief."}, USER]) == "[user Be brief.\n\nHi]"
    )
    assert (
        render(ALTERNATING, [USER, ANSWER, SYSTEM, NEXT])
        == "[user Hi][assistant Yes.][user Be brief.\n\nand?]"
    )
    assert render(ALTERNATING, [USER, SYSTEM]) == "[user Hi\n\nBe brief.]"
    assert render(ALTERNATING, [SYSTEM]) == "[user Be brief.]"
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert (
        render(ALTERNATING, [SYSTEM | {"content": parts}, USER | {"content": parts}]) == "[user a\nb\n\na\nb]"
    )


def test_an_instruction_that_a_template_would_leave_out_is_not_lost() -> None:
    source = "{% for m in messages if m.role != 'system' %}[{{ m.content }}]{% endfor %}"
    assert render(source, [SYSTEM, USER]) == "[Be brief.\n\nHi]"


def test_a_template_with_one_place_for_instructions_gets_them_there() -> None:
    source = (
        "{% for m in messages %}{% if m.role == 'system' and not loop.first %}"
        "{{ raise_exception('at the beginning') }}{% endif %}[{{ m.role }} {{ m.content }}]{% endfor %}"
    )
    assert render(source, [SYSTEM, SYSTEM, USER, ANSWER, SYSTEM, NEXT]) == (
        "[system Be brief.\n\nBe brief.][user Hi][assistant Yes.][user Be brief.\n\nand?]"
    )


def test_two_messages_of_the_users_in_a_row_are_refused_with_a_way_out() -> None:
    with pytest.raises(
        RequestError, match=r"alternate.*messages\.\[1\] and messages\.\[2\].* one message of both"
    ):
        render(MISTRAL, [SYSTEM, USER, NEXT])


def test_developer_is_system_where_a_template_would_not_write_it() -> None:
    developer = {"role": "developer", "content": "x"}
    assert render(ROLES, [developer, USER]) == "[system x][user Hi]"
    assert render(ROLES + "{# developer #}", [developer, USER]) == "[developer x][user Hi]"
    deaf = "{# developer #}{% for m in messages if m.role != 'developer' %}[{{ m.content }}]{% endfor %}"
    assert render(deaf, [developer, USER]) == "[x][Hi]"


def test_parts_are_joined_unless_the_template_asks_for_parts() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert render(ROLES, [USER | {"content": parts}]) == "[user a\nb]"
    parts_of_m = "{% for p in m.content if p.type == 'text' %}<{{ p.text }}>{% endfor %}"
    by_part = "{% for m in messages %}" + parts_of_m + "{% endfor %}"
    assert render(by_part, [SYSTEM, USER | {"content": parts}]) == "<Be brief.><a><b>"
    assert render(by_part, [USER, {"role": "assistant", "content": None}]) == "<Hi><>"


def test_a_template_that_loops_over_no_tools_renders() -> None:
    assert render("{% for t in tools %}{{ t }}{% endfor %}" + ROLES, [USER]) == "[user Hi]"
    assert render("{{ tools is none }}" + ROLES, [USER]) == "True[user Hi]"


def test_a_template_may_fill_and_empty_lists_of_its_own() -> None:
    source = (
        "{% set ns = namespace(ids=[]) %}{% for m in messages %}{% set _ = ns.ids.append(m.content) %}{% endfor %}"
        "{% do ns.ids.append('x') %}{{ ns.ids.pop(0) }} {{ ns.ids }}"
    )
    assert render(source, [USER, ANSWER]) == "Hi ['Yes.', 'x']"


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth - 1):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (nested(MAX_NESTING), "nested more than 64 deep"),
        (nested(100_000), "nested more than 64 deep"),
        ({"a": [{"b": float("inf")}]}, "not finite"),
        ([float("nan")], "not finite"),
        (1 << 5000, "an integer of more than 4096 bits"),
    ],
)
def test_a_message_that_no_template_could_print_is_named(value: Any, reason: str) -> None:
    bad = {"role": "user", "content": "x", "tool_calls": value}
    with pytest.raises(RequestError, match=rf"messages\.\[1\] .*{reason}") as refused:
        render(CHATML, [USER, bad])
    assert refused.value.param == "messages.[1]"
    with pytest.raises(RequestError, match=reason):
        render(CHATML, [USER], given=value)
    assert list(texts_of([USER, bad])) == ["Hi", "x"]


def test_arguments_nested_too_deep_are_no_bomb() -> None:
    for text in ("[" * 100_000, '{"a":' * 500 + "1" + "}" * 500):
        assert (
            render(CALLS + "{{ a | length }}{% endfor %}{% endfor %}", [USER, call(text)])
            == f"CALL{len(text)}"
        )


def test_a_message_as_deep_as_allowed_renders() -> None:
    message = USER | {"x": nested(MAX_NESTING - 1)}
    assert "[" * (MAX_NESTING - 1) in render("{{ messages[0] | tojson }}", [message])


def test_texts_of_a_request_are_found_in_every_shape_of_it() -> None:
    parts = [{"type": "text", "text": "b"}, {"type": "image_url"}, 7]
    messages = [USER, USER | {"content": parts}, call("{}"), ANSWER | {"tool_calls": 3, "function_call": "x"}]
    assert list(texts_of(messages)) == ["Hi", "b", "{}", "Yes."]
