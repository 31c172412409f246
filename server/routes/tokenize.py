"""POST /tokenize: the token ids of a text or a chat, in the words of llama.cpp and of vLLM."""

import json
import threading
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from engine.text.tokenizer import Tokenizer
from server.body import read_request
from server.generations.prompts import Prompt
from server.schemas.tokens import TokenizeRequest, tokenize_request
from server.service import Service
from server.token_json import json_list
from server.uncut_prompts import chat_prompt, text_prompt

router = APIRouter()


@router.post("/tokenize")
async def tokenize(request: Request) -> Response:
    service: Service = request.app.state.service
    service.require_ready()
    asked = await read_request(request, tokenize_request)
    service.model_named(asked.model)
    token_ids = (await _prompt(service, request, asked)).token_ids
    told = {"count": len(token_ids), "max_model_len": service.engine.ctx_size}

    def body(cancelled: threading.Event) -> str:
        tokenizer = service.tokenizer
        piece = (lambda i: {"id": i, "piece": _piece(tokenizer, i)}) if asked.with_pieces else int
        tokens = json_list(token_ids, piece, cancelled)
        strings = json_list(token_ids, tokenizer.piece, cancelled) if asked.with_strings else "null"
        return f'{json.dumps(told)[:-1]}, "tokens": {tokens}, "token_strs": {strings}}}'

    text = await service.text_pool.run(len(token_ids), body)
    return Response(text, media_type="application/json")


async def _prompt(service: Service, request: Request, asked: TokenizeRequest) -> Prompt:
    if asked.chat is not None:
        return await chat_prompt(service, request, asked.chat)
    assert asked.text is not None, "a request has a chat or a text"
    return await text_prompt(
        service, request, asked.text, add_special=asked.add_special, parse_special=asked.parse_special
    )


def _piece(tokenizer: Tokenizer, token_id: int) -> Any:
    """What the token is in a text: a string, or the numbers of its bytes where they are no UTF-8 by themselves."""
    data = tokenizer.spelled_bytes(token_id)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return list(data)
