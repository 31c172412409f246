"""What a call grammar lets a model write is what the format's parser reads: answers drawn at random, every format."""

import json
import random
from typing import Any

import jsonschema
import pytest

from engine.answers.formats import CALL_FORMATS
from engine.answers.grammars import WRITINGS, call_grammar
from engine.answers.parts import CallArguments, CallStart, Part, Text
from engine.answers.reader import AnswerReader
from engine.answers.tool import Tool
from engine.constraints.compiler import Compiler
from engine.constraints.grammars import json_rule
from engine.constraints.spec import ConstraintSpec
from engine.text.tokenizer import Tokenizer, load_tokenizer
from server.generations.pieces import joined_parts
from support.guided_text import drawn_text
from support.vocabularies import CONTROL, USER_DEFINED, bpe_metadata

WORD = {"type": "string", "enum": ["a b", 'c"d', "é\n"]}
TOOLS = (
    Tool(
        "get_weather",
        {
            "type": "object",
            "properties": {
                "city": WORD,
                "days": {"type": "integer", "minimum": 1, "maximum": 9},
                "near": {"type": "array", "items": WORD, "maxItems": 2},
                "exact": {"type": "boolean"},
            },
            "required": ["city", "days"],
            "additionalProperties": False,
        },
        strict=True,
    ),
    Tool("now", {"type": "object", "properties": {}, "additionalProperties": False}, strict=True),
    Tool(
        "note",
        {
            "type": "object",
            "properties": {"at": {"$ref": "#/$defs/at"}},
            "required": ["at"],
            "$defs": {"at": {"enum": [1, None, "x"]}},
            "additionalProperties": False,
        },
        strict=True,
    ),
)
SCHEMAS = {tool.name: tool.parameters for tool in TOOLS}


def vocabulary(controls: bool) -> Tokenizer:
    """Single bytes, and the markers of every format as tokens: control tokens, or such as texts may spell."""
    texts = sorted({text for form in CALL_FORMATS.values() for text in form.shown})
    kind = CONTROL if controls else USER_DEFINED
    return load_tokenizer(bpe_metadata(more=[*((text, kind) for text in texts), ("<|im_end|>", CONTROL)]))


@pytest.fixture(scope="module", params=[True, False], ids=["control tokens", "texts"])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return vocabulary(request.param)


@pytest.fixture(scope="module")
def compiler(tokenizer: Tokenizer) -> Compiler:
    return Compiler(tokenizer, tokenizer.eos_ids)


def drawn(tokenizer: Tokenizer, compiler: Compiler, name: str, seed: int, **options: Any) -> str:
    """An answer as the parser sees it."""
    known = tokenizer.control
    grammar = call_grammar(WRITINGS[name], TOOLS, lambda text: known.ids.get(known.spelled(text)), **options)
    guide = compiler.compile(ConstraintSpec("lark", grammar, "tools")).guide()
    text = drawn_text(guide, tokenizer, random.Random(seed), shown=CALL_FORMATS[name].shown)
    assert text is not None, "the answer never ends"
    return text


def parts_of(name: str, text: str) -> tuple[Part, ...]:
    reader = AnswerReader(None, CALL_FORMATS[name], TOOLS)
    return joined_parts(reader.push(text) + reader.flush())


def check_calls(parts: tuple[Part, ...]) -> list[str]:
    """The names of the calls, whose arguments match their schemas."""
    names = [part.name for part in parts if isinstance(part, CallStart)]
    texts = [part.text for part in parts if isinstance(part, CallArguments)]
    for name, text in zip(names, texts, strict=True):
        jsonschema.validate(json.loads(text), SCHEMAS[name])
    return names


@pytest.mark.parametrize("name", WRITINGS)
def test_required_calls_are_calls_and_nothing_else(
    tokenizer: Tokenizer, compiler: Compiler, name: str
) -> None:
    seen = set()
    for seed in range(12):
        text = drawn(tokenizer, compiler, name, seed, required=True, parallel=True)
        parts = parts_of(name, text)
        assert not any(isinstance(part, Text) for part in parts), text
        names = check_calls(parts)
        assert names
        seen |= set(names)
    assert len(seen) > 1


@pytest.mark.parametrize("name", WRITINGS)
def test_without_parallel_calls_there_is_one(tokenizer: Tokenizer, compiler: Compiler, name: str) -> None:
    for seed in range(6):
        text = drawn(tokenizer, compiler, name, seed, required=True, parallel=False)
        assert len(check_calls(parts_of(name, text))) == 1


@pytest.mark.parametrize("name", WRITINGS)
@pytest.mark.parametrize("parallel", [True, False])
def test_a_free_answer_whose_call_begins_makes_it_right(
    tokenizer: Tokenizer, compiler: Compiler, name: str, parallel: bool
) -> None:
    """Text of random bytes seldom calls by itself; where it does, the parser reads each call."""
    writing = WRITINGS[name]
    for seed in range(6):
        text = drawn(tokenizer, compiler, name, seed, required=False, parallel=parallel)
        names = check_calls(parts_of(name, text))
        assert len(names) == (
            text.count(writing.trigger) if writing.trigger and writing.is_each else len(names)
        )
        assert parallel or len(names) <= 1


@pytest.mark.parametrize("name", WRITINGS)
def test_with_a_form_of_its_own_an_answer_is_calls_or_that_form(
    tokenizer: Tokenizer, compiler: Compiler, name: str
) -> None:
    form = {
        "type": "object",
        "properties": {"answer": {"enum": [1, 2]}},
        "required": ["answer"],
        "additionalProperties": False,
    }
    kinds = set()
    for seed in range(16):
        text = drawn(tokenizer, compiler, name, seed, required=False, parallel=True, content=json_rule(form))
        parts = parts_of(name, text)
        if check_calls(parts):
            assert not any(isinstance(part, Text) for part in parts)
            kinds.add("calls")
        else:
            jsonschema.validate(json.loads(text), form)
            kinds.add("form")
    assert kinds == {"calls", "form"}


def test_every_format_has_its_grammar() -> None:
    assert WRITINGS.keys() == CALL_FORMATS.keys()
