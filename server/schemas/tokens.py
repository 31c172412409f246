"""POST /tokenize and /detokenize, with llama.cpp's bodies and vLLM's."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from server.errors import ApiError
from server.schemas.chat import ChatRequest, chat_request
from server.schemas.fields import read_body
from server.schemas.route_fields import DETOKENIZE, DETOKENIZE_FIELDS, TOKENIZE, TOKENIZE_FIELDS

SOURCES = ("messages", "prompt", "content")
_TOKENIZE = TOKENIZE_FIELDS.of_route(TOKENIZE)
_DETOKENIZE = DETOKENIZE_FIELDS.of_route(DETOKENIZE)
_NOT_THE_CHATS = ("with_pieces", "return_token_strs")


@dataclass(frozen=True)
class TokenizeRequest:
    """text: None where a chat is to be rendered. with_pieces, with_strings: what is told beside the ids."""

    model: str | None
    text: str | None
    chat: ChatRequest | None
    add_special: bool
    parse_special: bool
    with_pieces: bool
    with_strings: bool


@dataclass(frozen=True)
class DetokenizeRequest:
    model: str | None
    token_ids: list[int]


def tokenize_request(body: Mapping[str, Any]) -> TokenizeRequest:
    """Raises ApiError 400 naming the field."""
    source = _source(body)
    chat = None
    if source == "messages":
        chat = chat_request({name: value for name, value in body.items() if name not in _NOT_THE_CHATS})
        body = {name: body[name] for name in _TOKENIZE if name in body}
    values = read_body(body, _TOKENIZE)
    return TokenizeRequest(
        model=values.first("model"),
        text=None if chat else values.first(source, ""),
        chat=chat,
        add_special=values.first("add_special", source == "prompt"),
        parse_special=values.first("parse_special", True),
        with_pieces=values.first("with_pieces", False),
        with_strings=values.first("return_token_strs", False),
    )


def detokenize_request(body: Mapping[str, Any]) -> DetokenizeRequest:
    """Raises ApiError 400 naming the field."""
    values = read_body(body, _DETOKENIZE)
    return DetokenizeRequest(values.first("model"), values.first("tokens"))


def _source(body: Mapping[str, Any]) -> str:
    """The one field that says what to tokenize. An empty text is one."""
    given = [name for name in SOURCES if body.get(name) is not None]
    if not given:
        raise ApiError(400, "prompt is missing; a text as prompt or content, or messages", param="prompt")
    if len(given) > 1:
        raise ApiError(400, f"{' and '.join(given)} are given; one of them is taken", param=given[1])
    return given[0]
