"""Patterns and grammars before they are compiled: length, groups, counts, rules."""

import re

from engine.constraints.limits import (
    MAX_DEPTH,
    MAX_GRAMMAR,
    MAX_GROUPS,
    MAX_PATTERN,
    MAX_REPEATS,
    MAX_RULES,
)
from engine.constraints.spec import invalid

# What counts in a pattern: not what is escaped, nor what stands in a class of characters.
_PATTERN_PARTS = re.compile(
    r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|(?P<open>\()|(?P<close>\))|(?P<count>\{[\d,]*\})", re.S
)
# What counts in a grammar: not what stands in a text or a comment.
_GRAMMAR_PARTS = re.compile(
    r'"(?:\\.|[^"\\\n])*"|//[^\n]*|\\.|(?P<open>\()|(?P<close>\))|(?P<count>[{~]\s*\d[\s\d,.]*)', re.S
)
_RULE = re.compile(r"^\s*[?!]?[\w.-]+(?:\[\w+\])?(?:\.-?\d+)?(?:\{[^}\n]*\})?\s*(?::|::=)", re.M)


def check_pattern(pattern: str, param: str) -> None:
    """Raises RequestError for a regular expression that is too large to compile."""
    if len(pattern) > MAX_PATTERN:
        raise invalid(param, f"has {len(pattern)} characters; at most {MAX_PATTERN} are compiled")
    _check_parts(_PATTERN_PARTS, pattern, param)


def check_grammar(grammar: str, param: str) -> None:
    """Raises RequestError for a Lark or GBNF grammar that is too large to compile."""
    if len(grammar) > MAX_GRAMMAR:
        raise invalid(param, f"has {len(grammar)} characters; at most {MAX_GRAMMAR} are compiled")
    if len(_RULE.findall(grammar)) > MAX_RULES:
        raise invalid(param, f"has more than {MAX_RULES} rules")
    _check_parts(_GRAMMAR_PARTS, grammar, param)


def _check_parts(parts: "re.Pattern[str]", text: str, param: str) -> None:
    n_groups = depth = 0
    for part in parts.finditer(text):
        if part["open"]:
            n_groups, depth = n_groups + 1, depth + 1
        elif part["close"]:
            depth -= 1
        elif part["count"] and _largest(part["count"]) > MAX_REPEATS:
            raise invalid(param, f"repeats a part more than {MAX_REPEATS} times; * and + have no limit")
        if n_groups > MAX_GROUPS:
            raise invalid(param, f"has more than {MAX_GROUPS} groups")
        if depth > MAX_DEPTH:
            raise invalid(param, f"has groups more than {MAX_DEPTH} deep")


def _largest(count: str) -> int:
    numbers = re.findall(r"\d+", count)
    return max((int(number[:9]) for number in numbers), default=0)
