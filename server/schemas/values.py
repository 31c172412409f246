"""How the value of a request field is read: a JSON schema for the pages, and a reader for the body.

A reader takes the value and the field's name, and returns what the value means. It raises ApiError 400 with that name
as param, and never repeats the value.
"""

import math
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from engine.sampling import FLOAT_RANGES
from server.errors import ApiError

MAX_COUNT = (1 << 31) - 1  # the engine's counts; a larger limit means the same as this one
MAX_STOPS = 128
MAX_CHOICES = 128  # of one client request, all its prompts together
MAX_STOP_CHARACTERS = 1000
MAX_LOGIT_BIAS = 1024
MAX_WORDS = 128
NAME_OF_TOOL = re.compile(r"[A-Za-z0-9_.:/-]{1,128}")
MAX_WORD_CHARACTERS = 100
MAX_TOKEN_IDS = 1 << 18  # as many as the largest vocabularies have


@dataclass(frozen=True)
class Kind:
    """One type of value. `schema` is JSON Schema."""

    schema: Mapping[str, Any]
    read: Callable[[Any, str], Any]


def wrong(name: str, expected: str) -> ApiError:
    return ApiError(400, f"{name} must be {expected}", param=name)


def number_of(value: Any, name: str) -> float:
    """A finite number; true and false are none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise wrong(name, "a number")
    try:
        number = float(value)
    except OverflowError:
        raise wrong(name, "a finite number") from None
    if not math.isfinite(number):  # JSON's 1e999
        raise wrong(name, "a finite number")
    return number


def integer_of(value: Any, name: str) -> int:
    """A whole number: clients in JavaScript and Lua write 12 as 12.0."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole and not (isinstance(value, float) and value.is_integer()):
        raise wrong(name, "an integer")
    return int(value)


def text_of(value: Any, name: str) -> str:
    """A string that is Unicode: JSON's escapes can spell half a surrogate pair, which no encoding takes."""
    if not isinstance(value, str):
        raise wrong(name, "a string")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise ApiError(400, f"{name} has half a surrogate pair in it", param=name) from None
    return value


def _boolean(value: Any, name: str) -> bool:
    if not isinstance(value, bool):
        raise wrong(name, "true or false")
    return value


def _object(value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise wrong(name, "an object")
    return value


def count(lowest: int) -> Kind:
    """An integer from `lowest`. One beyond the engine's counts is cut to them: it asks for no other answer."""

    def read(value: Any, name: str) -> int:
        number = integer_of(value, name)
        if number < lowest:
            raise wrong(name, f"an integer, {lowest} or more")
        return min(number, MAX_COUNT)

    return Kind({"type": "integer", "minimum": lowest}, read)


def integer(lowest: int, highest: int) -> Kind:
    """An integer of a range, of which none is cut to its end: each number asks for another answer."""

    def read(value: Any, name: str) -> int:
        number = integer_of(value, name)
        if not lowest <= number <= highest:
            raise wrong(name, f"an integer from {lowest} to {highest}")
        return number

    return Kind({"type": "integer", "minimum": lowest, "maximum": highest}, read)


def one_of(*texts: str) -> Kind:
    def read(value: Any, name: str) -> str:
        if not isinstance(value, str) or value not in texts:
            raise wrong(name, f"one of {', '.join(texts)}")
        return value

    return Kind({"type": "string", "enum": list(texts)}, read)


def sampling_number(name: str) -> Kind:
    """A number whose range is the engine's, which checks it: the schema only shows it."""
    lowest, highest = FLOAT_RANGES[name]
    schema = {"type": "number", "minimum": lowest}
    return Kind(schema if highest == sys.float_info.max else {**schema, "maximum": highest}, number_of)


def _seed(value: Any, name: str) -> int:
    number = integer_of(value, name)
    if not -(1 << 63) <= number < 1 << 64:
        raise wrong(name, "an integer of 64 bits")
    return number


def _stops(value: Any, name: str) -> list[str]:
    """Stop strings without the empty ones, which stop nothing."""
    given = [value] if isinstance(value, str) else value
    if not isinstance(given, list) or not all(isinstance(stop, str | None) for stop in given):
        raise wrong(name, "a string or a list of strings")
    stops = [text_of(stop, name) for stop in given if stop]
    if len(stops) > MAX_STOPS:
        raise ApiError(400, f"{name} has {len(stops)} strings; at most {MAX_STOPS} are taken", param=name)
    if any(len(stop) > MAX_STOP_CHARACTERS for stop in stops):
        raise ApiError(400, f"a string in {name} has more than {MAX_STOP_CHARACTERS} characters", param=name)
    return stops


def _logit_bias(value: Any, name: str) -> dict[int, float]:
    """OpenAI's mapping of ids to numbers, or llama.cpp's list of pairs. -100 and 100 are the ends of both."""
    if not isinstance(value, dict | list):
        raise wrong(name, "an object of token ids and numbers")
    if len(value) > MAX_LOGIT_BIAS:
        raise ApiError(
            400, f"{name} has {len(value)} entries; at most {MAX_LOGIT_BIAS} are taken", param=name
        )
    pairs = value.items() if isinstance(value, dict) else [_pair(entry, name) for entry in value]
    return {_token_id(key, name): number_of(bias, name) for key, bias in pairs}


def _pair(entry: Any, name: str) -> tuple[Any, Any]:
    if not isinstance(entry, list) or len(entry) != 2:
        raise wrong(name, "an object of token ids and numbers, or a list of pairs of them")
    return entry[0], entry[1]


def _token_id(key: Any, name: str) -> int:
    """A token id as JSON has it in a list (5, 5.0) or as an object's key ("5", "5.0")."""
    if isinstance(key, str):
        try:
            key = float(key) if "." in key else int(key)
        except ValueError:
            raise ApiError(400, f"{name} maps token ids to numbers; texts are not ids", param=name) from None
    return integer_of(key, name)


def _token_ids(value: Any, name: str) -> frozenset[int]:
    if not isinstance(value, list):
        raise wrong(name, "a list of token ids")
    if len(value) > MAX_TOKEN_IDS:
        raise ApiError(400, f"{name} has {len(value)} ids; at most {MAX_TOKEN_IDS} are taken", param=name)
    return frozenset(integer_of(token_id, name) for token_id in value)


def token_list(most: int) -> Kind:
    """Token ids in order, at most so many. Whether the vocabulary has them is not known here."""

    def read(value: Any, name: str) -> list[int]:
        if not isinstance(value, list):
            raise wrong(name, "a list of token ids")
        if len(value) > most:
            raise ApiError(400, f"{name} has {len(value)} ids; at most {most} are taken", param=name)
        return [integer_of(token_id, name) for token_id in value]

    return Kind({**_IDS, "maxItems": most}, read)


def _words(value: Any, name: str) -> list[str]:
    """Texts without the empty ones, which are nowhere."""
    if not isinstance(value, list):
        raise wrong(name, "a list of strings")
    words = [word for entry in value if (word := text_of(entry, name))]
    if len(words) > MAX_WORDS:
        raise ApiError(400, f"{name} has {len(words)} texts; at most {MAX_WORDS} are taken", param=name)
    if any(len(word) > MAX_WORD_CHARACTERS for word in words):
        raise ApiError(400, f"a text in {name} has more than {MAX_WORD_CHARACTERS} characters", param=name)
    return words


def _messages(value: Any, name: str) -> list[dict[str, Any]]:
    """Messages stay plain objects: the chat template decides what it reads of them."""
    if not isinstance(value, list):
        raise wrong(name, "a list of messages")
    if not 1 <= len(value) <= MAX_MESSAGES:
        raise ApiError(400, f"{name} has {len(value)} messages; 1 to {MAX_MESSAGES} are taken", param=name)
    for index, message in enumerate(value):
        if not isinstance(message, dict):
            raise wrong(f"{name}.[{index}]", "an object with a role and a content")
    return value


def _prompt(value: Any, name: str) -> str | list[Any]:
    if not isinstance(value, str | list):
        raise wrong(name, "a text, token ids, or a list of one of these")
    for text in value if isinstance(value, list) else [value]:
        if isinstance(text, str):
            text_of(text, name)
    return value


MAX_MESSAGES = 4096
_TEXTS = {"type": "array", "items": {"type": "string"}}
_IDS = {"type": "array", "items": {"type": "integer"}}

ANY = Kind({}, lambda value, _: value)
BOOLEAN = Kind({"type": "boolean"}, _boolean)
TEXT = Kind({"type": "string"}, text_of)
OBJECT = Kind({"type": "object"}, _object)
SEED = Kind({"type": "integer"}, _seed)
STOPS = Kind({"anyOf": [{"type": "string"}, {**_TEXTS, "maxItems": MAX_STOPS}]}, _stops)
_BIAS = {"type": "number", "minimum": -100, "maximum": 100}
_PAIR = {"type": "array", "prefixItems": [{"type": "integer"}, _BIAS], "minItems": 2, "maxItems": 2}
TOKEN_IDS = Kind(_IDS, _token_ids)
WORDS = Kind({**_TEXTS, "maxItems": MAX_WORDS}, _words)
LOGIT_BIAS = Kind(
    {"anyOf": [{"type": "object", "additionalProperties": _BIAS}, {"type": "array", "items": _PAIR}]},
    _logit_bias,
)
MESSAGES = Kind(
    {
        "type": "array",
        "minItems": 1,
        "maxItems": MAX_MESSAGES,
        "items": {
            "type": "object",
            "required": ["role"],
            "properties": {
                "role": {"type": "string", "description": "system, developer, user, assistant, tool, ..."},
                "content": {
                    "description": "A text, a list of text parts, or null.",
                    "anyOf": [
                        {"type": "string"},
                        {"type": "array", "items": {"type": "object"}},
                        {"type": "null"},
                    ],
                },
            },
        },
    },
    _messages,
)
PROMPT = Kind(
    {"anyOf": [{"type": "string"}, _IDS, _TEXTS, {"type": "array", "items": _IDS}]},
    _prompt,
)
