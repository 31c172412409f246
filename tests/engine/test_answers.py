"""Answers taken apart: recorded ones of every family, cut anywhere, give what the whole text gives."""

import json
import random
from collections.abc import Iterable, Sequence

import pytest

from engine.answers.chars import Chars
from engine.answers.formats import CALL_FORMATS, format_of
from engine.answers.parts import CallArguments, CallStart, Part, Text, Thought
from engine.answers.reader import AnswerReader
from engine.answers.thoughts import THOUGHT_FORMATS, ends_thinking, is_thought_over, starts_thinking
from engine.errors import EspalierError
from server.generations.pieces import joined_parts
from support.recorded_answers import RECORDED, TOOLS, Recorded

THINK = THOUGHT_FORMATS["think"]
CASES = [
    pytest.param(name, each, id=f"{name}-{i}")
    for name, all_ in RECORDED.items()
    for i, each in enumerate(all_)
]


def parts_of(reader: AnswerReader, pieces: Sequence[str]) -> tuple[Part, ...]:
    parts = [part for piece in pieces for part in reader.push(piece)]
    return joined_parts(parts + reader.flush())


def read(name: str | None, *pieces: str, thinks: bool = True, starts: bool = False) -> tuple[Part, ...]:
    calls = CALL_FORMATS[name] if name else None
    return parts_of(AnswerReader(THINK if thinks else None, calls, TOOLS, starts_thinking=starts), pieces)


def calls_of(parts: Sequence[Part]) -> list[tuple[str, str]]:
    names = [part.name for part in parts if isinstance(part, CallStart)]
    arguments = [part for part in parts if isinstance(part, CallArguments)]
    assert [part.index for part in arguments] == list(range(len(names)))
    return list(zip(names, [part.text for part in arguments], strict=True))


def test_every_format_has_recorded_answers() -> None:
    assert RECORDED.keys() == CALL_FORMATS.keys()
    assert all(len(recorded) >= 6 for recorded in RECORDED.values())


@pytest.mark.parametrize(("name", "recorded"), CASES)
def test_a_recorded_answer_gives_its_content_and_calls(name: str, recorded: Recorded) -> None:
    parts = read(name, recorded.text)
    assert "".join(part.text for part in parts if isinstance(part, Text)) == recorded.content
    assert tuple((call, json.loads(arguments)) for call, arguments in calls_of(parts)) == recorded.calls


@pytest.mark.parametrize(("name", "recorded"), CASES)
def test_however_an_answer_is_cut_its_parts_are_the_same(name: str, recorded: Recorded) -> None:
    text = f"<think>\nIs it <tool_call>?\n</think>\n\n{recorded.text}"
    whole = read(name, text)
    assert read(name, *text) == whole
    step = 1 if len(text) < 400 else 17
    for at in range(0, len(text), step):
        assert read(name, text[:at], text[at:]) == whole
    rng = random.Random(0)
    for _ in range(200 if len(text) < 400 else 20):
        cuts = sorted(rng.sample(range(len(text)), min(len(text), rng.randint(1, 12))))
        pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
        assert read(name, *pieces) == whole


@pytest.mark.parametrize("name", CALL_FORMATS)
def test_text_without_calls_stays_as_it_is(name: str) -> None:
    """Any text of the marks' own characters, cut or not."""
    rng = random.Random(name)
    marks = [
        *CALL_FORMATS[name].shown,
        "<tool_call>",
        '{"name": "',
        "{",
        "}",
        "\n",
        " ",
        "a",
        '"',
        "]",
        "<",
        ">",
        "é",
    ]
    for _ in range(60):
        text = "x" + "".join(rng.choice(marks) for _ in range(rng.randint(1, 12)))
        whole = read(name, text, thinks=False)
        assert read(name, *text, thinks=False) == whole
        if not any(isinstance(part, CallStart) for part in whole):
            kept = "".join(part.text for part in whole if isinstance(part, Text))
            section = [
                mark
                for mark in CALL_FORMATS[name].shown
                if ("calls" in mark and "section" in mark) or "calls▁" in mark
            ]
            for mark in section:
                text = text.replace(mark, "")
                kept = kept.replace(mark, "")
            assert kept == text


@pytest.mark.parametrize("name", CALL_FORMATS)
def test_arguments_that_are_long_come_before_the_call_is_whole(name: str) -> None:
    """An agent shows the file that a model writes while it is written."""
    [text] = [
        each.text for each in RECORDED[name] if len(each.text) > 1000 and each.calls[0][0] == "write_file"
    ]
    reader = AnswerReader(None, CALL_FORMATS[name], TOOLS)
    begun = reader.push(text[: len(text) // 2])
    assert any(isinstance(part, CallStart) for part in begun)
    assert sum(len(part.text) for part in begun if isinstance(part, CallArguments)) > 256


def test_a_call_that_breaks_off_after_it_was_given_out_ends_there() -> None:
    """What a client has been told stays told; what comes after the break is content."""
    text = '<tool_call>{"name": "write_file", "arguments": {"text": "' + "a" * 300 + '", oh no'
    parts = read("hermes", text)
    [(name, arguments)] = calls_of(parts)
    assert name == "write_file"
    assert arguments.startswith('{"text": "' + "a" * 300)
    assert parts[-1] == Text("oh no")


@pytest.mark.parametrize("name", CALL_FORMATS)
def test_no_character_is_looked_at_more_than_a_few_times(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls that break off at their ends, one after the other: a second look at all of each would double this."""
    n_again = 0
    put_back = Chars.put_back

    def counted(self: Chars, chars: Iterable[str]) -> None:
        nonlocal n_again
        given = list(chars)
        n_again += len(given)
        put_back(self, given)

    monkeypatch.setattr(Chars, "put_back", counted)
    broken = "".join(CALL_FORMATS[name].shown[:1]) + '{"name": "f", "arguments": {"a": "' + "b" * 50 + "\n "
    text = broken * 300
    read(name, *text)
    assert n_again < len(text) / 2


THOUGHTS = [
    ("<think>a</think>b", "a", "b"),
    ("\n<think>\n a \n b\n</think>\n\n b \n", "a \n b", "b \n"),
    ("<think>\n\n</think>\n\nb", "", "b"),
    ("<think>never ends\n", "never ends", ""),
    ("<thin", "", "<thin"),
    (" \n", "", " \n"),
    ("a <think>b</think>", "", "a <think>b</think>"),
    ("<think>a</thin</think>b<think>", "a</thin", "b<think>"),
    ("</think>a", "", "</think>a"),
]


@pytest.mark.parametrize(("text", "thought", "content"), THOUGHTS)
def test_thoughts_come_apart_however_they_are_cut(text: str, thought: str, content: str) -> None:
    expected = tuple(part for part in (Thought(thought), Text(content)) if part.text)
    assert read(None, text) == expected
    assert read(None, *text) == expected
    for at in range(len(text)):
        assert read(None, text[:at], text[at:]) == expected


def test_a_thought_that_the_prompt_opens_needs_no_mark() -> None:
    assert read(None, *"so\n</think>\n\nyes", starts=True) == (Thought("so"), Text("yes"))
    assert read(None, "cut off", starts=True) == (Thought("cut off"),)
    reader = AnswerReader(THINK, None, starts_thinking=True)
    assert reader.is_thinking
    reader.push("a</think>")
    assert not reader.is_thinking


def test_whether_a_prompt_opens_a_thought_shows_at_its_end() -> None:
    assert starts_thinking(THINK, "user: <think>?\nassistant:<think>\n")
    assert not starts_thinking(THINK, "user: <think> is a tag\nassistant:")
    assert is_thought_over(THINK, "assistant:<think>\n\n</think>\n\n")
    assert ends_thinking(THINK, "<think>so far")
    assert not ends_thinking(THINK, "<think>so</think> far")


SIGNS = {
    "hermes": ["<tool_call>", "", "nothing of tools"],
    "qwen3_coder": ["<tool_call>\n<function=example>\n<parameter=x>"],
    "glm": ["<tool_call>{name}\n<arg_key>"],
    "mistral": ["[AVAILABLE_TOOLS] [TOOL_CALLS]"],
    "mistral_v11": ["[TOOL_CALLS]name[ARGS]"],
    "llama3": ["<|python_tag|>", '<|start_header_id|> {"name": f, "parameters": p}'],
    "deepseek": ["<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>name\n```json"],
    "deepseek_v31": ["<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>"],
    "kimi_k2": ["<|tool_calls_section_begin|><|tool_call_begin|>"],
}


@pytest.mark.parametrize("name", SIGNS)
def test_the_format_shows_in_the_template(name: str) -> None:
    assert all(format_of(source).calls is CALL_FORMATS[name] for source in SIGNS[name])


def test_formats_can_be_chosen_and_turned_off_by_name() -> None:
    assert format_of("</think>").thoughts is THINK
    assert format_of("[/THINK]").thoughts is THOUGHT_FORMATS["magistral"]
    assert format_of("</think>", reasoning_parser="none").thoughts is None
    assert format_of("", reasoning_parser="think").thoughts is THINK
    assert format_of("[TOOL_CALLS]", tool_parser="none").calls is None
    assert format_of("[TOOL_CALLS]", tool_parser="glm").calls is CALL_FORMATS["glm"]
    with pytest.raises(EspalierError, match=r"--tool-parser 'x' is not known; use auto, none, hermes,"):
        format_of("", tool_parser="x")
    with pytest.raises(EspalierError, match=r"--reasoning-parser 'x' is not known; use auto, none, think,"):
        format_of("", reasoning_parser="x")
