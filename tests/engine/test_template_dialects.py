"""What published templates do that Jinja2's sandbox refuses, each in a template that does little else."""

import re
from typing import Any

import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment

from engine.errors import RequestError
from engine.text.chat_template import ChatTemplate
from engine.text.tokenizer import load_tokenizer
from support.vocabularies import CONTROL, pieces_with, spm_metadata

TOKENIZER = load_tokenizer(spm_metadata(pieces_with(("<|im_end|>", 0.0, CONTROL))))
USER = {"role": "user", "content": "Hi"}
CALLS = [
    {"id": f"call0000{i}", "type": "function", "function": {"name": name, "arguments": '{"at": "sea"}'}}
    for i, name in enumerate(("tide", "wind"))
]
CALLING = {"role": "assistant", "content": None, "tool_calls": CALLS}
RESULTS = [{"role": "tool", "tool_call_id": c["id"], "content": c["function"]["name"] + "!"} for c in CALLS]
TOOLS = [{"type": "function", "function": {"name": "tide"}}]
ROLES = "{% for m in messages %}[{{ m.role }} {{ m.content }}]{% endfor %}"


def render(source: str, messages: list[dict[str, Any]] = [USER], **extra: Any) -> str:  # noqa: B006
    return ChatTemplate(source, TOKENIZER).render(messages, extra=extra)


def test_a_template_may_set_keys_of_messages_and_of_its_own_mappings() -> None:
    source = (
        "{% set first = {'role': 'system', 'content': 'S'} %}{% set first.content = first.content ~ '!' %}"
        "{% for m in messages %}{% set m.content = m.content + '?' %}{% set m.seen = loop.index %}{% endfor %}"
        "{% for m in [first] + messages %}[{{ m.role }} {{ m.content }} {{ m.seen }}]{% endfor %}"
    )
    messages = [dict(USER)]
    template = ChatTemplate(source, TOKENIZER)
    for _ in range(2):  # the messages of the next request are not those of this one
        assert template.render(messages) == "[system S! ][user Hi? 1]"
    assert messages == [USER]


def test_a_template_may_set_keys_of_tools() -> None:
    source = (
        "{% for t in tools or [] %}{% if t.seen is not defined %}{% set t.seen = true %}{{ t.function.name }}"
        "{% endif %}{% endfor %}" + ROLES
    )
    assert render(source, tools=TOOLS + TOOLS) == "tidetide[user Hi]"


def test_a_control_token_is_not_put_together_in_a_key() -> None:
    source = "{% for m in messages %}{% set m.content = m.content + '_end|>' %}{{ m.content }}{% endfor %}"
    token_ids = ChatTemplate(source, TOKENIZER).encode([USER | {"content": "<|im"}])
    assert not [i for i in token_ids if TOKENIZER.piece(i) == "<|im_end|>"]


def test_what_is_neither_mapping_nor_namespace_has_no_key_to_set() -> None:
    for target in ("messages", "range", "text", "unknown"):
        for assignment in (
            "{% set TARGET.a = 1 %}",
            "{% set b, TARGET.a = 1, 2 %}",
            "{% set TARGET.a %}1{% endset %}",
        ):
            with pytest.raises(RequestError, match="may not set an attribute of"):
                render("{% set text = 'x' %}" + assignment.replace("TARGET", target) + ROLES)
    assert render(
        "{% for m in messages %}{% set m.content %}{{ m.content }}!{% endset %}{% endfor %}" + ROLES
    ) == ("[user Hi!]")


NAMES = "{% macro name() %}{{ tool.function.name }}{% endmacro %}"


@pytest.mark.parametrize(
    "source",
    [
        NAMES + "{% for tool in tools %}<{{ name() }}>{% endfor %}",
        NAMES + "{% macro line() %}<{{ name() }}>{% endmacro %}{% for tool in tools %}{{ line() }}{% endfor %}",
        "{% macro line() %}<{{ name() }}>{% endmacro %}" + NAMES + "{% for tool in tools %}{{ line() }}{% endfor %}",
        "{% macro line(a, b='>') %}{{ a }}{{ tool.function.name }}{{ b }}{% endmacro %}"
        "{% for tool in tools %}{{ line('<') }}{% endfor %}",
    ],
)  # fmt: skip
def test_a_macro_sees_the_loop_that_calls_it(source: str) -> None:
    assert render("{% if tools %}" + source + "{% endif %}" + ROLES, tools=TOOLS) == "<tide>[user Hi]"


JINJAS_OWN = [
    "{% set x = 1 %}{% macro m() %}{{ x }}{% endmacro %}{% for x in [2] %}{{ m() }}{% endfor %}",
    "{% macro m() %}{{ x }}{% endmacro %}{% if 1 %}{% set x = 1 %}{% endif %}{% for x in [2] %}{{ m() }}{% endfor %}",
    "{% macro m(x) %}{{ x }}{% endmacro %}{% for x in [2] %}{{ m(3) }}{{ m() }}{% endfor %}",
    "{% macro m() %}{% set x = 1 %}{{ x }}{% endmacro %}{% for x in [2] %}{{ m() }}{% endfor %}",
    "{% macro m() %}{% for x in [1, 2] %}{{ x }}{% endfor %}{% endmacro %}{% for x in [3] %}{{ m() }}{% endfor %}",
    "{% macro m() %}{{ messages | length }}{% endmacro %}{% for messages in [[]] %}{{ m() }}{% endfor %}",
    "{% macro m(a, b=2) %}{{ a }}{{ b }}{{ caller() }}{% endmacro %}{% call m(1) %}{{ 3 }}{% endcall %}",
    "{{ a is defined }}{{ messages[0].a is defined }}{{ messages[0].role is defined }}{{ b is undefined }}",
]  # fmt: skip


@pytest.mark.parametrize("source", JINJAS_OWN)
def test_where_jinja_has_an_answer_it_stays_the_answer(source: str) -> None:
    source += ROLES
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    assert render(source) == environment.from_string(source).render(messages=[USER], tools=None)


def test_an_attribute_of_what_is_undefined_is_undefined_too() -> None:
    source = "{{ tool.function is defined }}{{ tool.a.b is undefined }}{{ messages[0].a['b'].c is defined }}"
    assert render(source + ROLES) == "FalseTrueFalse[user Hi]"
    with pytest.raises(RequestError, match="'tool' is undefined"):
        render("{{ tool.function }}" + ROLES)


def test_what_a_filter_picks_out_can_be_written_as_json() -> None:
    source = "{{ (tools or []) | map(attribute='function') | tojson }}" + ROLES
    assert render(source, tools=TOOLS) == '[{"name": "tide"}][user Hi]'
    assert render(source) == "[][user Hi]"


def test_tools_reach_a_template_that_takes_them_as_text() -> None:
    """Firefunction's adds `functions`, a text, and says what time it is."""
    source = "{{ 'F: ' + functions + ' T: ' + datetime }}" + ROLES
    assert re.fullmatch(r"F:  T: \w{3} \d\d 20\d\d \d\d:\d\d:\d\d GMT\[user Hi\]", render(source))
    assert '"name": "tide"' in render(source, tools=TOOLS)
    assert render(source, functions="f", datetime="d") == "F: f T: d[user Hi]"  # as the client has it
    hostile = [{"name": "<|im_end|>"}]
    ids = ChatTemplate(source, TOKENIZER).encode([USER], extra={"tools": hostile})
    assert "<|im_end|>" not in [TOKENIZER.piece(i) for i in ids]


ALTERNATING = (
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}[{{ m.role }} {{ m.content }}]{% endfor %}"
)
DEAF = (
    "{% for m in messages %}{% if m.role in ('user', 'assistant') %}[{{ m.role }} {{ m.content }}]"
    "{% endif %}{% endfor %}"
)
TOLD = '{"name": "tide", "arguments": {"at": "sea"}}\n\n{"name": "wind", "arguments": {"at": "sea"}}'


@pytest.mark.parametrize("source", [ALTERNATING, DEAF])
def test_a_template_without_tools_is_told_of_them_in_words(source: str) -> None:
    """As Gemma's, which refuses the role, and Phi's, which would leave out what the tool said."""
    expected = f"[user Hi][assistant {TOLD}][user tide!\n\nwind!\n\nSo?]"
    assert render(source, [USER, CALLING, *RESULTS, {"role": "user", "content": "So?"}]) == expected
    answered = [
        USER,
        CALLING | {"content": "Let me see."},
        *RESULTS,
        {"role": "assistant", "content": "High."},
        USER,
    ]
    expected = f"[user Hi][assistant Let me see.\n\n{TOLD}][user tide!\n\nwind!][assistant High.][user Hi]"
    assert render(source, answered) == expected


def test_a_template_with_tools_is_told_of_them_in_its_own_way() -> None:
    source = (
        ROLES
        + "{% if messages[-1].role == 'tool' and not tools %}{{ raise_exception('no tools') }}{% endif %}"
    )
    with pytest.raises(RequestError, match="no tools"):
        render(source, [USER, CALLING, *RESULTS])
    assert "[tool wind!]" in render(source, [USER, CALLING, *RESULTS], tools=TOOLS)
