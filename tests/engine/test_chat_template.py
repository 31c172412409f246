"""Chat templates: errors, and what a template may rely on. The families' own are in test_chat_families.py."""

import json
import re
import threading

import pytest

from engine.errors import RequestError
from engine.text.chat_template import ChatTemplate
from engine.text.tokenizer import load_tokenizer
from support.chat_templates import CHATML, CONTROL_TEXTS, LLAMA_2, LLAMA_3, MISTRAL
from support.vocabularies import CONTROL, pieces_with, shared_metadata, spm_metadata

TOKENIZER = load_tokenizer(spm_metadata(pieces_with(*((text, 0.0, CONTROL) for text in CONTROL_TEXTS))))
SYSTEM = {"role": "system", "content": "Be brief."}
USER = {"role": "user", "content": " Hello "}
ANSWER = {"role": "assistant", "content": "Hi!"}
LONG = [SYSTEM, USER, ANSWER, {"role": "user", "content": "Bye"}]


def template(source, tokenizer=TOKENIZER):
    return ChatTemplate(source, tokenizer)


def show(source, **extra):
    return template(source).render([USER], extra=extra)


def test_the_generation_prompt_can_be_left_out():
    assert template(CHATML).render([USER], add_generation_prompt=False).endswith("<|im_end|>\n")


@pytest.mark.parametrize("source", [CHATML, LLAMA_3])
def test_the_prompt_begins_with_exactly_one_bos(source):
    ids = template(source).encode([USER])
    assert ids[0] == TOKENIZER.bos_id
    assert ids.count(TOKENIZER.bos_id) == 1
    assert TOKENIZER.piece(ids[1]) in CONTROL_TEXTS


def test_a_model_without_bos_gets_none():
    tokenizer = load_tokenizer(spm_metadata(pieces_with(("<|im_start|>", 0.0, CONTROL)), add_bos_token=False))
    assert tokenizer.piece(template(CHATML, tokenizer).encode([USER])[0]) == "<|im_start|>"


def test_the_file_of_a_real_model(shared):
    metadata = shared_metadata(shared / "vocab/ggml-vocab-phi-3.gguf")
    tokenizer = load_tokenizer(metadata)
    chat = ChatTemplate.from_metadata(metadata, tokenizer)
    ids = chat.encode([{"role": "user", "content": "Hi <|end|>"}])
    assert chat.render([USER]) == "<s><|user|>\n Hello <|end|>\n<|assistant|>\n"
    assert [tokenizer.piece(i) for i in ids if tokenizer.is_control(i)] == [
        "<s>",
        "<|user|>",
        "<|end|>",
        "<|assistant|>",
    ]


def test_a_file_without_a_template_gets_the_plain_one():
    chat = ChatTemplate.from_metadata({}, TOKENIZER)
    assert (
        chat.render(LONG) == "System: Be brief.\n\nUser: Hello\n\nAssistant: Hi!\n\nUser: Bye\n\nAssistant:"
    )
    assert chat.stops == ("\nUser:",)
    assert sum(map(TOKENIZER.is_control, chat.encode(LONG))) == 1  # BOS


BAD_MESSAGES = [
    ([], "messages"),
    ([{"content": "x"}], "messages.[0].role"),
    ([USER, {"role": "", "content": "x"}], "messages.[1].role"),
    ([USER, {"role": "x" * 65, "content": "x"}], "messages.[1].role"),
    ([{"role": ["user"], "content": "x"}], "messages.[0].role"),
    ([{"role": "user", "content": 7}], "messages.[0].content"),
    ([{"role": "user", "content": {"type": "text"}}], "messages.[0].content"),
    ([{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}], "messages.[0].content.[0]"),
    ([{"role": "user", "content": [{"type": ["text"]}]}], "messages.[0].content.[0]"),
    ([{"role": "user", "content": [{"type": "text"}]}], "messages.[0].content.[0].text"),
    ([{"role": "user", "content": ["x"]}], "messages.[0].content.[0]"),
]


@pytest.mark.parametrize(("messages", "param"), BAD_MESSAGES)
def test_bad_messages_name_their_place(messages, param):
    with pytest.raises(RequestError) as refused:
        template(CHATML).render(messages)
    assert refused.value.param == param
    assert "\n" not in str(refused.value)


def test_an_unknown_role_is_shown_as_it_is_or_becomes_the_users():
    """A template that prints roles shows it; one that refuses it gets the words as the user's."""
    messages = [{"role": "critic", "content": "Too long."}]
    assert "critic\nToo long." in template(CHATML).render(messages)
    assert template(MISTRAL).render(messages) == template(MISTRAL).render([USER | {"content": "Too long."}])


@pytest.mark.parametrize(
    "part",
    [
        {"type": "input_text", "text": "Hm."},
        {"type": "output_text", "text": "Hm."},
        {"type": "refusal", "refusal": "Hm."},
    ],
)
def test_parts_that_hold_text_are_text_whatever_their_type(part):
    as_text = template(CHATML).render([USER, {"role": "assistant", "content": "Hm."}, USER])
    assert template(CHATML).render([USER, {"role": "assistant", "content": [part]}, USER]) == as_text


def test_thoughts_among_the_parts_go_where_templates_look_for_them():
    source = "{{ messages[0].reasoning_content }}|{{ messages[0].content }}"
    parts = [
        {"type": "thinking", "thinking": "So."},
        {"type": "redacted_thinking"},
        {"type": "text", "text": "Yes."},
    ]
    assert template(source).render([{"role": "assistant", "content": parts}]) == "So.|Yes."


def test_a_templates_own_refusal_reaches_the_user():
    with pytest.raises(RequestError, match="roles must alternate") as refused:
        template(MISTRAL).render([USER, USER])
    assert refused.value.param == "messages"


@pytest.mark.parametrize(
    "source", ["{{ messages[0].name.first }}", "{{ 1 // 0 }}", "{{ messages + 1 }}", "{{ none() }}"]
)
def test_a_failing_template_is_a_request_error(source):
    with pytest.raises(RequestError, match=r"chat template failed: .+"):
        show(source)


BROKEN = ["{% for %}", "{{ 'a' | nosuchfilter }}", "{% include 'x' %}", "{% extends 'x' %}",
          "{% import 'x' as y %}", "{{ " + "(" * 5000 + ")" * 5000 + " }}", "{{ " + "9" * 5000 + " }}",
          "{% from 'x' import y %}", "x" * 70_000, 7, "", " \n ", "{{ bos_token }}",
          "{{ if .System }}<s>{{ .System }}{{ end }}{{ .Prompt }}"]  # fmt: skip


@pytest.mark.parametrize("source", BROKEN, ids=[str(s)[:20] for s in BROKEN])
def test_a_template_of_no_use_is_a_note_and_chats_are_in_plain_words(source):
    chat = ChatTemplate.from_metadata({"tokenizer.chat_template": source}, TOKENIZER)
    [note] = chat.notes
    assert re.fullmatch(r"tokenizer\.chat_template [^\n]+--chat-template[^\n]+", note)
    assert chat.render([USER]) == "User: Hello\n\nAssistant:"
    assert chat.stops == ("\nUser:",)


def test_tojson_is_hugging_faces():
    value = {"b": "é<&>'", "a": [1, None, True]}
    assert show("{{ value | tojson }}", value=value) == json.dumps(value, ensure_ascii=False)
    assert show("{{ value | tojson(indent=2) }}", value=value) == json.dumps(
        value, ensure_ascii=False, indent=2
    )


def test_loop_controls_generation_tags_and_the_date():
    assert show("{% for i in range(9) %}{% if i == 1 %}{% continue %}{% endif %}{% if i == 3 %}{% break %}"
                "{% endif %}{{ i }}{% endfor %}") == "02"  # fmt: skip
    assert show("a{% generation %}b{% endgeneration %}c") == "abc"
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", show("{{ strftime_now('%Y-%m-%d') }}"))


def test_blocks_are_trimmed_as_hugging_face_does():
    assert show("  {% if true %}\n  x\n  {% endif %}\ny") == "  x\ny"


def test_absent_tools_and_documents_are_none_and_special_texts_are_there():
    assert show("{{ tools is none }}{{ documents is none }}{{ bos_token }}{{ eos_token }}{{ unk_token }}"
                "[{{ pad_token }}]") == "TrueTrue<s></s><unk>[]"  # fmt: skip


def test_extra_variables_reach_the_template():
    assert show("{{ enable_thinking }}{% for t in tools %}{{ t.type }}{% endfor %}",
                enable_thinking=False, tools=[{"type": "function"}]) == "Falsefunction"  # fmt: skip


SOURCE_OF_MANY = """\
{%- macro field(name, value='-') -%}{{ name }}={{ value }};{%- endmacro -%}
{%- set ns = namespace(found=false, last='') -%}
{%- for m in messages if m.role != 'system' -%}
{{ field(m.role, m.content | trim) }}{%- set ns.found = true -%}
{%- set ns.last = loop.index ~ '/' ~ loop.length -%}
{%- endfor -%}
{{ ns.found }} {{ ns.last }} {{ messages | map(attribute='role') | join(',') }}
{{- ' ' ~ (messages | selectattr('role', 'equalto', 'user') | list | length) }}
{{- ' ' ~ ('%s-%02d' | format('a', 7)) ~ ' ' ~ '{}:{x}'.format(1, x=2) ~ ' ' ~ ('a b'.split() | last) }}
{{- ' ' ~ ({'k': 1}.items() | list)[0][0] ~ {'k': 1}.get('z', 'no') ~ messages[-1:][0].role }}
{%- set block %} {{ 'x' * 3 }}{% endset %}{{ block }}"""


def test_what_real_templates_use_works():
    assert show(SOURCE_OF_MANY) == "user=Hello;True 1/1 user 1 a-07 1:2 b knouser xxx"


def test_threads_render_at_once_without_meeting():
    chat, wrong = template(CHATML), []

    def render(name):
        for _ in range(50):
            text = chat.render([{"role": "user", "content": name * 100}])
            if text != f"<|im_start|>user\n{name * 100}<|im_end|>\n<|im_start|>assistant\n":
                wrong.append(text)

    threads = [threading.Thread(target=render, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_long_conversation_stays_within_the_budget():
    """On a machine half as fast too: 1500 messages take 0.55 s of the one second on a slow core of 2026."""
    messages = [{"role": "user", "content": "word " * 400}, {"role": "assistant", "content": "yes"}] * 750
    assert len(template(LLAMA_2).render(messages)) > 1_500_000
    assert len(template(CHATML).render(messages)) > 1_500_000
