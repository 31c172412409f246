"""POST /detokenize: the text of token ids, as llama.cpp calls it (`content`) and as vLLM does (`prompt`)."""

import json
import threading

from fastapi import APIRouter, Request
from starlette.responses import Response

from server.body import read_request
from server.errors import ApiError
from server.schemas.tokens import DetokenizeRequest, detokenize_request
from server.service import Service

router = APIRouter()


@router.post("/detokenize")
async def detokenize(request: Request) -> Response:
    service: Service = request.app.state.service
    service.require_ready()
    asked = await read_request(request, detokenize_request)
    service.model_named(asked.model)

    def body(_: threading.Event) -> str:
        _check(asked, service.tokenizer.n_vocab)
        text = json.dumps(service.tokenizer.spelled(asked.token_ids))
        return f'{{"content": {text}, "prompt": {text}}}'

    return Response(await service.text_pool.run(len(asked.token_ids), body), media_type="application/json")


def _check(asked: DetokenizeRequest, n_vocab: int) -> None:
    # An expression that other threads can come between, as they could not with min and max of a long list.
    if any(not 0 <= token_id < n_vocab for token_id in asked.token_ids):
        raise ApiError(400, f"tokens has an id outside 0 to {n_vocab - 1}", param="tokens")
