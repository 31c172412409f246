"""Prompts that are only looked at: they may be longer than the context, which is what some want to know."""

from collections.abc import Iterator
from contextlib import contextmanager

from starlette.requests import Request

from engine import ContextLengthError
from server.chat_plan import rendered
from server.errors import ApiError
from server.generations.prompts import Prompt
from server.schemas.chat import ChatRequest
from server.schemas.route_fields import MAX_TOKENS
from server.service import Service


async def text_prompt(
    service: Service, request: Request, text: str, *, add_special: bool, parse_special: bool
) -> Prompt:
    """Raises ApiError 400 for a text of more than MAX_TOKENS."""
    with _too_long("prompt"):
        return await service.encode_text(
            request, text, add_special=add_special, parse_special=parse_special, limit=MAX_TOKENS + 1
        )


async def chat_prompt(service: Service, request: Request, asked: ChatRequest) -> Prompt:
    """As it would be answered, but whole. Raises ApiError 400 for one of more than MAX_TOKENS."""
    with _too_long("messages"):
        return await rendered(service, request, asked, MAX_TOKENS + 1)


@contextmanager
def _too_long(param: str) -> Iterator[None]:
    try:
        yield
    except ContextLengthError:
        raise ApiError(
            400, f"{param} has more than {MAX_TOKENS} tokens, the most taken here", param=param
        ) from None
