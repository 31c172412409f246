"""Forms of answers: what a client reads matches what it asked for, whatever tokens the model chooses."""

import json
import random
import re

import jsonschema
import pytest

from engine.constraints import Compiler, ConstraintSpec
from engine.constraints.limits import LIMITS
from engine.errors import GuideError, RequestError
from engine.text.tokenizer import load_tokenizer
from support.guided_text import allowed_ids, drawn_text
from support.vocabularies import BYTE, CONTROL, NORMAL, USER_DEFINED, bpe_metadata, pieces_with, spm_metadata

PIECES = [(text, -1.0, NORMAL) for text in ("▁{", '▁"', "{", "▁yes", "▁no", "no", "yes", "true", "▁▁", "é")]
SPM = load_tokenizer(
    spm_metadata(pieces_with(*PIECES, ("<|im_end|>", 0.0, CONTROL), ("<tag>", 0.0, USER_DEFINED)))
)
BPE = load_tokenizer(bpe_metadata())
TOKENIZERS = pytest.mark.parametrize("tokenizer", [SPM, BPE], ids=["spm", "bpe"])
# Of a vocabulary that puts a space in front of texts, clients do not see it at the start of an answer.
VIEWS = pytest.mark.parametrize(
    ("tokenizer", "hides_space"),
    [(SPM, False), (SPM, True), (BPE, False)],
    ids=["spm", "spm without its space", "bpe"],
)
COMPILERS = {id(SPM): Compiler(SPM, SPM.eos_ids), id(BPE): Compiler(BPE, BPE.eos_ids)}
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 5},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "tags": {"type": "array", "items": {"enum": ["a", "b", None]}, "maxItems": 3},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}


def compiled(tokenizer, kind, value):
    return COMPILERS[id(tokenizer)].compile(ConstraintSpec(kind, value, "form"))


def texts(tokenizer, kind, value, n=20, **options):
    constraint = compiled(tokenizer, kind, value)
    drawn = [
        drawn_text(
            constraint.guide(hides_space=options.get("hides_space", False)),
            tokenizer,
            random.Random(seed),
            **options,
        )
        for seed in range(n)
    ]
    return [text for text in drawn if text is not None]


def accepts(tokenizer, kind, value, text):
    """Whether a text is let through byte by byte and may end there."""
    guide = compiled(tokenizer, kind, value).guide()
    by_bytes = {tokenizer.token_bytes(i): i for i in range(tokenizer.n_vocab)}
    for byte in text.encode():
        token_id = by_bytes[bytes([byte])]
        if token_id not in allowed_ids(guide, tokenizer.n_vocab):
            return False
        guide.accept(token_id)
    return bool(set(allowed_ids(guide, tokenizer.n_vocab)) & tokenizer.eos_ids)


@VIEWS
def test_what_a_client_reads_is_valid_by_the_schema(tokenizer, hides_space):
    found = texts(tokenizer, "json_schema", PERSON, hides_space=hides_space)
    assert len(found) == 20
    for text in found:
        jsonschema.validate(json.loads(text), PERSON)


@VIEWS
def test_a_choice_is_one_of_the_texts_letter_by_letter(tokenizer, hides_space):
    choices = ["yes", "no", " yes", "", 'é"\\\n{']
    found = texts(tokenizer, "choice", choices, n=60, hides_space=hides_space)
    assert set(found) == set(choices)


@VIEWS
def test_a_pattern_holds_for_the_whole_answer(tokenizer, hides_space):
    pattern = r"[a-c]{2,4}( |/)\d\d?"
    found = texts(tokenizer, "regex", pattern, hides_space=hides_space)
    assert len(found) == 20
    assert all(re.fullmatch(pattern, text) for text in found)


def test_a_space_that_is_not_shown_is_no_part_of_the_answer():
    """A model of this kind begins every answer with a space: it is allowed, and taken away."""
    space = next(i for i in range(SPM.n_vocab) if SPM.piece(i) == "▁{")
    hidden = compiled(SPM, "json_object", None).guide(hides_space=True)
    assert space in allowed_ids(hidden, SPM.n_vocab)
    assert space not in allowed_ids(compiled(SPM, "json_object", None).guide(), SPM.n_vocab)
    hidden.accept(space)
    closing = next(i for i in range(SPM.n_vocab) if SPM.token_bytes(i) == b"}" and i != space)
    hidden.accept(closing)
    assert hidden.is_finished


def test_every_token_of_an_allowed_text_is_allowed():
    """Two tokens of one text are two ways to say it: the byte that spells it, and the word."""
    ids = allowed_ids(compiled(SPM, "regex", r"\{a?").guide(), SPM.n_vocab)
    assert {i for i in range(SPM.n_vocab) if SPM.token_bytes(i) == b"{"} <= set(ids)


@TOKENIZERS
def test_no_control_token_is_allowed_inside_a_text(tokenizer):
    ids = allowed_ids(compiled(tokenizer, "regex", "(.|\n)*").guide(), tokenizer.n_vocab)
    assert {i for i in ids if tokenizer.is_control(i)} == set(tokenizer.eos_ids)


def test_every_end_of_the_model_may_end_an_answer():
    guide = compiled(SPM, "choice", ["yes"]).guide()
    for letter in "yes":
        assert not set(allowed_ids(guide, SPM.n_vocab)) & SPM.eos_ids
        guide.accept(next(i for i in range(SPM.n_vocab) if SPM.token_bytes(i) == letter.encode()))
    assert guide.is_finished
    assert len(SPM.eos_ids) == 2
    assert set(allowed_ids(guide, SPM.n_vocab)) == SPM.eos_ids


@TOKENIZERS
def test_white_space_in_json_cannot_go_on(tokenizer):
    assert accepts(tokenizer, "json_object", None, '{"a": 1, "b": [\n  true\n]}')
    assert not accepts(tokenizer, "json_object", None, '{"a":  1}')
    assert not accepts(tokenizer, "json_object", None, '{"a":\n\n1}')
    assert not accepts(tokenizer, "json_object", None, '{"a":\n' + " " * 21 + "1}")


@TOKENIZERS
@pytest.mark.parametrize(("text", "fits"), [("[1]", False), ("{}", True), ('{"a":[{}]}', True), ("1", False)])
def test_a_json_object_is_one_at_top_level(tokenizer, text, fits):
    assert accepts(tokenizer, "json_object", None, text) is fits


@pytest.mark.parametrize(("text", "fits"), [("1+2", True), ("1", True), ("1+", False), ("+1", False)])
@pytest.mark.parametrize(
    ("kind", "grammar"),
    [
        ("lark", 'start: NUMBER ("+" NUMBER)*\nNUMBER: /[0-9]+/'),
        ("gbnf", 'root ::= number ("+" number)*\nnumber ::= [0-9]+'),
    ],
)
def test_both_kinds_of_grammars_are_followed(kind, grammar, text, fits):
    assert accepts(BPE, kind, grammar, text) is fits


GBNF_JSON = r"""
# values within values
root   ::= object
value  ::= object | array | string | number | ("true" | "false" | "null") ws
object ::=
  "{" ws ( string ":" ws value ("," ws string ":" ws value)* )? "}" ws
array  ::= "[" ws ( value ("," ws value)* )? "]" ws
string ::= "\"" ( [^"\\\x7F\x00-\x1F] | "\\" (["\\/bfnrt] | "u" [0-9a-fA-F]{4}) )* "\"" ws
number ::= ("-"? ([0-9] | [1-9] [0-9]{0,15})) ("." [0-9]+)? ws
ws ::= | " " | "\n" [ \t]{0,20}
"""


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ('{"a": [1, -2.5, {"b": "é\\n"}], "c": null}', True),
        ("{}", True),
        ("[]", False),
        ('{"a" 1}', False),
        ('{"a":  1}', False),
        ('{"a": "\\q"}', False),
    ],
)
def test_a_grammar_of_rules_in_circles(text, fits):
    assert accepts(BPE, "gbnf", GBNF_JSON, text) is fits


@pytest.mark.parametrize(
    ("grammar", "text"),
    [
        ('root ::= [\\]a-c^-]+ "\\u00e9"', "]b^-é"),
        ("root ::= [^a-z/]{2}", "1/"[:1] + "A"),
        ('root ::= "/" . "\\x41"', "/\nA"),
        ('root ::= a | \n b\na ::= "x"\nb ::= ("y" | )', ""),
        ('my-rule ::= "x"\nroot ::= my-rule{2,3}', "xx"),
        ('root ::= "a"\n  | "b"', "b"),
    ],
)
def test_what_gbnf_can_write(grammar, text):
    assert accepts(BPE, "gbnf", grammar, text)
    assert not accepts(BPE, "gbnf", grammar, text + "~")


TAGS = {
    "structures": [
        {"begin": "<f=a>", "schema": {"type": "integer"}, "end": "</f>"},
        {"begin": "<f=b>", "schema": {"enum": ["x"]}, "end": "</f>"},
    ],
    "triggers": ["<f="],
}


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("no call at all", True),
        ('see <f=a>12</f> and <f=b>"x"</f>.', True),
        ("<f=c>", False),
        ("<f=a>true</f>", False),
        ('<f=b>"y"</f>', False),
        ("a < b", True),
    ],
)
def test_a_structural_tag_binds_what_follows_a_trigger(text, fits):
    assert accepts(BPE, "structural_tag", TAGS, text) is fits


def test_two_guides_of_one_form_know_nothing_of_each_other():
    constraint = compiled(BPE, "choice", ["ab", "cd"])
    first, second = constraint.guide(), constraint.guide()
    a, c = (next(i for i in range(BPE.n_vocab) if BPE.token_bytes(i) == x) for x in (b"a", b"c"))
    first.accept(a)
    second.accept(c)
    assert c not in allowed_ids(first, BPE.n_vocab)


def test_a_token_that_breaks_the_form_is_an_error_and_not_a_free_answer():
    guide = compiled(BPE, "choice", ["ab"]).guide()
    with pytest.raises(GuideError, match="cannot be followed"):
        guide.accept(next(i for i in range(BPE.n_vocab) if BPE.token_bytes(i) == b"z"))
    with pytest.raises(GuideError):
        allowed_ids(guide, BPE.n_vocab)


def test_an_answer_that_needs_too_much_work_ends_with_an_error_that_says_so(monkeypatch):
    """Its form has a state for every set of places where the counted part may have begun."""
    monkeypatch.setitem(LIMITS, "max_lexer_states", 100)
    constraint = Compiler(BPE, BPE.eos_ids).compile(ConstraintSpec("regex", "[ab]*a[ab]{300}", "form"))
    with pytest.raises(GuideError, match="needs more work"):
        drawn_text(constraint.guide(), BPE, random.Random(0))


def test_the_same_form_is_compiled_once():
    assert compiled(BPE, "json_schema", dict(PERSON)) is compiled(BPE, "json_schema", dict(PERSON))


def test_tokens_of_a_model_beyond_the_vocabulary_are_never_allowed():
    guide = compiled(BPE, "regex", "a*").guide()
    assert max(allowed_ids(guide, BPE.n_vocab + 100)) < BPE.n_vocab


def _nested(depth):
    schema = {"type": "string"}
    for _ in range(depth):
        schema = {"oneOf": [schema, {"type": "object", "properties": {"a": schema}}]}
    return schema


IN_A = {"type": "object", "properties": {"a": {}}}


def in_a(schema):
    return {"type": "object", "properties": {"a": schema}}


#: What is asked for, the part that is named, and what is said of it.
BOMBS = {
    "alternatives within alternatives": ("json_schema", _nested(9), "form.oneOf", "anyOf"),
    "too deep": (
        "json_schema",
        _nested(12)["oneOf"] and json.loads('{"items":' * 70 + "{}" + "}" * 70),
        "form",
        "deep",
    ),
    "a circle of references": (
        "json_schema",
        {**in_a({"$ref": "#/$defs/b"}), "$defs": {"b": {"$ref": "#/$defs/c"}, "c": {"$ref": "#/$defs/b"}}},
        "form.properties.a.$ref",
        "leads to itself",
    ),
    "a circle of required parts": (
        "json_schema",
        {**in_a({"type": "array", "items": {"$ref": "#"}, "minItems": 1}), "required": ["a"]},
        "form",
        "lead back",
    ),
    "a circle of alternatives": (
        "json_schema",
        {
            **in_a({"anyOf": [{"$ref": "#/$defs/n"}, {"allOf": [{"$ref": "#"}]}]}),
            "required": ["a"],
            "$defs": {"n": in_a({"$ref": "#/$defs/n"}) | {"required": ["a"]}},
        },
        "form",
        "lead back",
    ),
    "a reference to elsewhere": (
        "json_schema",
        in_a({"$ref": "http://x/y"}),
        "form.properties.a.$ref",
        r"\$defs",
    ),
    "a reference to nothing": (
        "json_schema",
        in_a({"$ref": "#/$defs/q"}),
        "form.properties.a.$ref",
        "nothing",
    ),
    "60 000 groups": (
        "json_schema",
        in_a({"pattern": "(" * 60_000}),
        "form.properties.a.pattern",
        "characters",
    ),
    "groups": ("regex", "(a)" * 2001, "form", "2000 groups"),
    "deep groups": ("regex", "(" * 65 + ")" * 65, "form", "64 deep"),
    "a large count": (
        "json_schema",
        in_a({"pattern": "a{0,100000}"}),
        "form.properties.a.pattern",
        "1000 times",
    ),
    "an enum of 100 000": ("json_schema", {"enum": [*range(100_000)]}, "form.enum", "5000"),
    "100 000 choices": ("choice", [str(i) for i in range(100_000)], "form", "5000"),
    "patterns at once": (
        "json_schema",
        {"allOf": [{"type": "string", "pattern": f"a{{{i}}}"} for i in range(1, 60)]},
        "form.allOf",
        "8 patterns",
    ),
    "patterns far apart": (
        "json_schema",
        in_a({"allOf": [{"allOf": [{"type": "string", "pattern": f"a{{{i}}}"}]} for i in range(1, 60)]}),
        "form",
        "takes longer",
    ),
    "a large divisor": (
        "json_schema",
        in_a({"multipleOf": 1000003}),
        "form.properties.a.multipleOf",
        "10000",
    ),
    "thousands of properties": (
        "json_schema",
        {"type": "object", "properties": {f"p{i}": {"type": "string"} for i in range(6000)}},
        "form",
        "8000 values",
    ),
    "many texts at least": (
        "json_schema",
        in_a({"minItems": 100_000}),
        "form.properties.a.minItems",
        "10000",
    ),
    "look-around": ("regex", "a(?=b)", "form", "look-around"),
    "rules one to the next": (
        "lark",
        "start: r0\n" + "\n".join(f"r{i}: r{i + 1} r{i + 1}" for i in range(900)) + '\nr900: "a"',
        "form",
        "nested too deeply",
    ),
    "60 000 rules": ("gbnf", "\n".join(f"r{i} ::= r{i + 1}" for i in range(60_000)), "form", "characters"),
    "a rule that never ends": ("lark", 'start: start "a"', "form", "no answer"),
    "a circle in GBNF": ("gbnf", 'root ::= root "a"', "form", "no answer"),
    "repeats in GBNF": ("gbnf", 'root ::= "a"{0,100000}', "form", "1000 times"),
    "no GBNF at all": ("gbnf", "root ::= <think>", "form", "line 1"),
    "a keyword": (
        "json_schema",
        in_a({"uniqueItems": True}),
        "form.properties.a.uniqueItems",
        "leave it out",
    ),
    "a format": (
        "json_schema",
        in_a({"type": "string", "format": "x"}),
        "form.properties.a.format",
        "pattern",
    ),
    "nothing": ("json_schema", False, "form", "no answer satisfies"),
    "no schema": ("json_schema", "x", "form", "an object"),
    "a large integer": ("json_schema", {"const": 10**30}, "form.const", "64 bits"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_form_that_cannot_be_is_refused_by_name(name):
    kind, value, param, told = BOMBS[name]
    with pytest.raises(RequestError, match=told) as caught:
        compiled(BPE, kind, value)
    assert (caught.value.param, caught.value.code) == (param, "invalid_constraint")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ({**in_a({"anyOf": [{"$ref": "#"}, {"type": "null"}]}), "required": ["a"]}, '{"a": {"a": null}}'),
        ({**in_a({"type": "array", "items": {"$ref": "#"}}), "required": ["a"]}, '{"a": [{"a": []}]}'),
        (in_a({"$ref": "#"}), '{"a": {}}'),
        ({**in_a({"$ref": "#/$defs/b"}), "required": ["a"], "$defs": {"b": {"const": 1}}}, '{"a": 1}'),
        (
            {**in_a({"type": ["object", "null"], "properties": {"b": {"$ref": "#"}}, "required": ["b"]})},
            '{"a": null}',
        ),
    ],
)
def test_a_circle_that_can_be_left_is_compiled(schema, text):
    assert accepts(BPE, "json_schema", schema, text)


def test_options_inside_a_schema_loosen_nothing():
    schema = in_a({"type": "string"}) | {"x-guidance": {"lenient": True}, "dependentSchemas": {}}
    with pytest.raises(RequestError, match="dependentSchemas"):
        compiled(BPE, "json_schema", schema)


def test_bytes_alone_spell_what_no_token_has():
    """An SPM vocabulary writes rare characters byte by byte."""
    assert any(kind == BYTE for kind in SPM.vocabulary.kinds)
    found = texts(SPM, "choice", ["日本"], n=3)
    assert found == ["日本"] * 3
