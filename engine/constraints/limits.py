"""What a form may cost. Each number is far above what forms in use need; beyond it a request is refused by name."""

from typing import Any

from llguidance import LLParserLimits

# Sizes, looked at before anything is compiled.
MAX_DEPTH = 64  # objects and lists within each other in a schema; groups within each other in a pattern
MAX_NODES = 8_000  # values in a schema
MAX_CHARACTERS = 1 << 18  # of all texts in a schema, or of all choices
MAX_ENUM = 5_000  # entries of one enum, and choices
MAX_PATTERN = 1 << 14  # characters of a regular expression
MAX_GRAMMAR = 1 << 18  # characters of a grammar, one of many tools too
MAX_GROUPS = 2_000  # in a pattern
MAX_RULES = 1_000  # in a grammar
MAX_REPEATS = 1_000  # a count in a pattern's or a grammar's {n,m}; RE2 has the same
MAX_TOGETHER = 8  # patterns that one text must match: their machines multiply
MAX_LEAST = 10_000  # minLength, minItems, minProperties
MAX_MOST = 1_000_000  # maxLength, maxItems, maxProperties
MAX_MULTIPLE = 10_000  # the digits of multipleOf as one number: a machine has as many states
MAX_INTEGER = (1 << 63) - 1
MAX_TAGS = 128  # of a structural tag

# What the compiler may use of processor and memory, in a process of its own (judge.py).
CPU_SECONDS = 0.25
MEMORY_BYTES = 128 << 20  # beyond what the process has without a form

# Of llguidance, for compiling and for every step of an answer: a step that needs more ends its request.
LIMITS: dict[str, Any] = {
    "max_grammar_size": 200_000,
    "initial_lexer_fuel": 500_000,
    "max_lexer_states": 20_000,  # 1 to 2 KiB each
    "step_lexer_fuel": 100_000,  # about 7 ms
    "step_max_items": 10_000,  # about 10 ms where a grammar is ambiguous
    "verbose_errors": False,  # they repeat the client's text
}


def parser_limits() -> LLParserLimits:
    return LLParserLimits(**LIMITS)
