"""POST /detokenize: the text of token ids, as llama.cpp calls it (`content`) and as vLLM does (`prompt`)."""

import threading

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
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

    def spelled(_: threading.Event) -> str:
        _check(asked, service.tokenizer.n_vocab)
        return service.tokenizer.spelled(asked.token_ids)

    text = await service.text_pool.run(len(asked.token_ids), spelled)
    return JSONResponse({"content": text, "prompt": text})


def _check(asked: DetokenizeRequest, n_vocab: int) -> None:
    ids = asked.token_ids
    if ids and (min(ids) < 0 or max(ids) >= n_vocab):
        raise ApiError(400, f"tokens has an id outside 0 to {n_vocab - 1}", param="tokens")
