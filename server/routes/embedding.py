"""POST /embedding, llama.cpp's: a list without an envelope, each embedding in a list of its own."""

import threading
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from engine.pooling import Pool
from server.body import read_request
from server.embedding import pools_of, vector_of
from server.schemas.embeddings import embedding_request
from server.service import Service
from server.token_json import json_list

router = APIRouter()


@router.post("/embedding")
async def embedding(request: Request) -> Response:
    service: Service = request.app.state.service
    service.require_ready()
    asked = await read_request(request, embedding_request)
    service.model_named(asked.model)
    pools, _ = await pools_of(service, request, asked)

    def entry(told: tuple[int, Pool]) -> dict[str, Any]:
        index, pool = told
        return {"index": index, "embedding": [vector_of(pool, asked).numbers()]}

    def body(cancelled: threading.Event) -> str:
        return json_list(list(enumerate(pools)), entry, cancelled, part=1)

    text = await service.text_pool.run(len(pools) * service.engine.facts.n_embd, body)
    return Response(text, media_type="application/json")
