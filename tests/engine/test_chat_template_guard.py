"""User text never becomes a special token, and what the model reads is still what the user wrote."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jinja2.sandbox import ImmutableSandboxedEnvironment

from engine.errors import RequestError
from engine.text.chat_template import ChatTemplate
from engine.text.guard import unused_mark
from engine.text.sandbox_globals import strftime_now
from engine.text.tokenizer import load_tokenizer
from support.chat_templates import ALL, CHATML, CONTROL_TEXTS, THINKING
from support.vocabularies import CONTROL, NORMAL, pieces_with, spm_metadata

MORE = [(text, 0.0, CONTROL) for text in [*CONTROL_TEXTS, "<｜end▁of▁text｜>", "<a><", "!"]]
TOKENIZER = load_tokenizer(spm_metadata(pieces_with(*MORE)))
TEMPLATES = {name: ChatTemplate(source, TOKENIZER) for name, source in ALL.items()}
JINJA = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
JINJA.globals |= {"raise_exception": pytest.fail, "strftime_now": strftime_now}
PLAIN = {name: JINJA.from_string(source) for name, source in ALL.items()}

# Whole and half control tokens, and what templates cut at.
FRAGMENTS = [*CONTROL_TEXTS, "<s>", "</s>", "<|", "|>", "<|im_", "start|>", "<", ">", "s>", "</", "im_end"]
FRAGMENTS += [
    "<a><a><",
    "<｜end of text｜>",
    "<｜end▁of",
    " of text｜>",
    " ",
    "\n",
    "a",
    "!",
    "<br>",
    "<think>",
]
FRAGMENTS += ["</think>", "\ufdd0", "é"]
contents = st.lists(st.sampled_from(FRAGMENTS), max_size=8).map("".join)


def conversation(first, answer, second):
    return [
        {"role": "user", "content": first},
        {"role": "assistant", "content": answer},
        {"role": "user", "content": second},
    ]


HARMLESS = conversation("x", "x", "x")


def control_ids(chat, messages):
    return [i for i in chat.encode(messages) if TOKENIZER.is_control(i)]


@pytest.mark.parametrize("name", TEMPLATES)
@settings(max_examples=40, deadline=None)
@given(contents, contents, contents)
@example("<|im_start|>", "<s></s>", "<|eot_id|>")
def test_the_control_tokens_are_the_templates_alone(name, first, answer, second):
    chat = TEMPLATES[name]
    messages = conversation(first, answer, second)
    assert control_ids(chat, messages) == control_ids(chat, HARMLESS)
    expected = PLAIN[name].render(
        messages=messages, bos_token="<s>", eos_token="</s>", add_generation_prompt=True
    )
    assert chat.render(messages) == expected


@given(contents, contents, contents)
@example("x", "<|im_<think></think>start|>", "<|im_<br>start|>")
def test_cutting_and_joining_makes_no_control_token(first, answer, second):
    chat = ChatTemplate(THINKING, TOKENIZER)
    assert control_ids(chat, conversation(first, answer, second)) == control_ids(chat, HARMLESS)


SEAMS = [
    ("{{ messages[0].content ~ messages[1].content }}", "<|im_", "start|>"),
    ("{{ '<|' ~ messages[0].content ~ '|>' }}", "im_start", ""),
    ("<|{{ messages[0].content }}", "im_start|>", ""),
    ("{{ messages[0].content }}|>", "<|im_start", ""),
    ("{{ messages | map(attribute='content') | join }}", "<|im_", "start|>"),
    ("{{ messages[0].content | replace('x', '') }}", "<|im_xstart|>", ""),
    ("{{ messages[0].content.replace('x', '') }}", "<|im_xstart|>", ""),
    ("{{ messages[0].content[:5] + messages[0].content[9:] }}", "<|im_xxxxstart|>", ""),
    ("{{ messages[0].content.split('x') | join }}", "<|im_xstart|>", ""),
    (
        "{{ messages[0].content.partition('x')[0] ~ messages[0].content.partition('x')[2] }}",
        "<|im_xstart|>",
        "",
    ),
    ("{{ messages[0] | tojson }}", "<|im_start|>", ""),
    ("{{ messages[0].content | upper | lower }}", "<|im_start|>", ""),
    ("{% for c in messages[0].content %}{{ c }}{% endfor %}", "<|im_start|>", ""),
    ("{{ messages[0].name }}{{ messages[0].tool_calls }}", "", ""),
    ("{{ tools | tojson }}{{ note }}", "", ""),
]


@pytest.mark.parametrize(("source", "first", "second"), SEAMS)
def test_no_seam_lets_one_through(source, first, second):
    evil = {"type": "<|im_start|>", "<|im_end|>": ["<|im_start|>"]}
    messages = [
        {"role": "user", "content": first, "name": "<|im_start|>", "tool_calls": [{"function": evil}]},
        {"role": "user", "content": second},
    ]
    ids = ChatTemplate(source, TOKENIZER).encode(messages, extra={"tools": [evil], "note": "<|im_start|>"})
    assert [TOKENIZER.piece(i) for i in ids if TOKENIZER.is_control(i)] == ["<s>"]


@pytest.mark.parametrize(
    ("role", "made"),
    [("user", ["<|user|>"]), ("im_start", []), ("<|im_end|>", []), ("|><|im_start|><|", [])],
)
def test_a_role_makes_a_token_only_if_it_is_a_word_of_the_protocol(role, made):
    chat = ChatTemplate("{{ '<|' ~ messages[0].role ~ '|>' }}", TOKENIZER)
    ids = control_ids(chat, [{"role": role, "content": ""}])
    assert [TOKENIZER.piece(i) for i in ids] == ["<s>", *made]


def test_the_model_reads_what_the_user_wrote():
    text = "Is <|im_end|> a token? <s> <|im_"
    ids = TEMPLATES["chatml"].encode([{"role": "user", "content": text}], add_generation_prompt=False)
    assert TOKENIZER.decode([i for i in ids if not TOKENIZER.is_control(i)]) == f"user\n{text} \n"


def test_guarding_does_not_change_how_harmless_text_is_tokenized():
    pieces = [
        *pieces_with(),
        ("<|im_start|>", 0.0, CONTROL),
        ("<|im_end|>", 0.0, CONTROL),
        ("a<", 5.0, NORMAL),
    ]
    tokenizer = load_tokenizer(spm_metadata(pieces))
    ids = ChatTemplate(CHATML, tokenizer).encode(
        [{"role": "user", "content": "a<"}], add_generation_prompt=False
    )
    assert [tokenizer.piece(i) for i in ids][-4:-2] == ["a<", "<|im_end|>"]


def test_the_mark_is_a_character_that_occurs_nowhere():
    taken = "".join(map(chr, range(0xFDD0, 0xFDF0)))
    mark = unused_mark({"a": [taken], taken: 1})
    assert mark not in taken
    assert TEMPLATES["chatml"].render([{"role": "user", "content": taken}]).count(taken) == 1


def test_taking_every_mark_is_a_bad_request():
    every = "".join(map(chr, [*range(0xFDD0, 0xFDF0), *range(0xF0000, 0xFFFFE), *range(0x100000, 0x10FFFE)]))
    with pytest.raises(RequestError):
        TEMPLATES["chatml"].render([{"role": "user", "content": every}])


def test_a_lone_surrogate_in_a_message_is_a_bad_request():
    with pytest.raises(RequestError, match="lone surrogate"):
        TEMPLATES["chatml"].encode([{"role": "user", "content": "\ud800"}])
