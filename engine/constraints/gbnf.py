"""GBNF, the grammars of llama.cpp, as Lark.

A rule that leads to no circle of rules becomes one terminal, as llguidance wants it for speed; the others stay rules.
llguidance reads terminals greedily: of `a ::= [a-z]+` and, in a circle of rules, `a "b"` no text can end; a grammar
may allow less than its writer meant, and never more.
Not read: tokens by name or number (`<think>`, `<[1000]>`), which are not text.
"""

import json
import re
from typing import NamedTuple

from engine.constraints.spec import invalid

_TOKEN = re.compile(
    r"""(?P<space>[ \t]+|\#[^\n]*)|(?P<line>\r?\n)|(?P<defines>::=)|(?P<text>"(?:\\.|[^"\\\n])*")
    |(?P<chars>\[(?:\\.|[^\]\\])*\])|(?P<count>\{\s*\d*\s*,?\s*\d*\s*\})|(?P<sign>[*+?|().])|(?P<name>[A-Za-z0-9_-]+)""",
    re.X | re.S,
)
_ESCAPE = re.compile(r"\\(x[0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{8}|.)", re.S)
_NAMED = {"n": "\n", "r": "\r", "t": "\t"}
_ROOT = "root"


class _Token(NamedTuple):
    kind: str
    text: str


def lark_of_gbnf(grammar: str, param: str) -> str:
    """Raises RequestError naming the line that cannot be read."""
    rules = _rules(_tokens(grammar, param), param)
    if _ROOT not in rules:
        raise invalid(param, "has no rule named root")
    used = {token.text for body in rules.values() for token in body if token.kind == "name"}
    if not used <= rules.keys():
        raise invalid(param, "refers to a rule that it does not define")
    terminals = _terminals(rules)
    names = {name: f"R{i}" if name in terminals else f"r{i}" for i, name in enumerate(rules)}
    lines = [f"{names[name]}: {_written(body, names)}" for name, body in rules.items()]
    return "\n".join([f"start: {names[_ROOT]}", *lines])


def _tokens(grammar: str, param: str) -> list[_Token]:
    found, place, line = [], 0, 1
    while place < len(grammar):
        match = _TOKEN.match(grammar, place)
        if match is None:
            raise invalid(param, f"cannot be read as GBNF in line {line}")
        kind = str(match.lastgroup)
        line += match[0].count("\n")
        place = match.end()
        if kind != "space":
            found.append(_Token(kind, match[0]))
    return found


def _rules(tokens: list[_Token], param: str) -> dict[str, list[_Token]]:
    """Name -> the tokens of its right side. A line ends a rule where the next one begins with `name ::=`."""
    plain = [token for token in tokens if token.kind != "line"]
    starts = [i for i, token in enumerate(plain) if token.kind == "defines"]
    if not starts or starts[0] != 1 or any(plain[i - 1].kind != "name" for i in starts):
        raise invalid(param, "must be rules of the form: name ::= ...")
    ends = [i - 1 for i in starts[1:]] + [len(plain)]
    rules: dict[str, list[_Token]] = {}
    for start, end in zip(starts, ends, strict=True):
        rules[plain[start - 1].text] = plain[start + 1 : end]
    return rules


def _terminals(rules: dict[str, list[_Token]]) -> set[str]:
    """The rules that lead to no circle of rules: regular ones."""
    needs = {name: {t.text for t in body if t.kind == "name"} for name, body in rules.items()}
    terminals: set[str] = set()
    while True:
        more = {name for name, used in needs.items() if used <= terminals} - terminals
        if not more:
            return terminals
        terminals |= more


def _written(body: list[_Token], names: dict[str, str]) -> str:
    """One right side; an alternative that is empty reads \"\"."""
    parts: list[str] = []
    opens = True  # at the beginning of an alternative
    for token in body:
        if opens and (token.text in ("|", ")")):
            parts.append('""')
        opens = token.kind == "sign" and token.text in ("|", "(")
        parts.append(_word(token, names))
    return " ".join([*parts, '""'] if opens else parts)


def _word(token: _Token, names: dict[str, str]) -> str:
    if token.kind == "name":
        return names[token.text]
    if token.kind == "text":
        return json.dumps(_ESCAPE.sub(_character, token.text[1:-1]), ensure_ascii=False)
    if token.kind == "chars":
        return f"/{_class_of(token.text)}/"
    if token.text == ".":
        return r"/(.|\n)/"
    return token.text


def _character(match: "re.Match[str]") -> str:
    escape = match[1]
    if escape[0] in "xuU" and len(escape) > 1:
        code = int(escape[1:], 16)
        return chr(code) if code < 0x110000 and not 0xD800 <= code < 0xE000 else "\ufffd"
    return _NAMED.get(escape, escape)


def _class_of(text: str) -> str:
    """A class of characters as a regular expression has it: all that could mean something there is escaped."""
    negated = text.startswith("[^")
    inner = text[2 if negated else 1 : -1]
    members = [_member(part) for part in re.findall(r"\\(?:x..|u.{4}|U.{8}|.)|.", inner, re.S)]
    return f"[{'^' if negated else ''}{''.join(members)}]"


def _member(part: str) -> str:
    """A character, or the `-` of a range, which stays as it is."""
    if part == "-":
        return "-"
    character = _ESCAPE.sub(_character, part)
    return f"\\x{{{ord(character):X}}}"
