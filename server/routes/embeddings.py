"""POST /v1/embeddings, OpenAI's."""

import base64
import json
import threading
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from engine.pooling import Pool
from server.body import read_request
from server.embedding import pools_of, vector_of
from server.schemas.embeddings import EmbeddingRequest, embeddings_request
from server.service import Service
from server.token_json import json_list

router = APIRouter()


@router.post("/v1/embeddings")
async def embeddings(request: Request) -> Response:
    service: Service = request.app.state.service
    service.require_ready()
    asked = await read_request(request, embeddings_request)
    model = service.model_named(asked.model)
    pools, n_tokens = await pools_of(service, request, asked)
    told = {
        "object": "list",
        "model": model,
        "usage": {"prompt_tokens": n_tokens, "total_tokens": n_tokens},
    }

    def body(cancelled: threading.Event) -> str:
        entries = json_list(list(enumerate(pools)), lambda entry: _entry(*entry, asked), cancelled, part=1)
        return f'{json.dumps(told)[:-1]}, "data": {entries}}}'

    n_numbers = len(pools) * service.engine.facts.n_embd
    text = await service.text_pool.run(n_numbers, body)
    return Response(text, media_type="application/json")


def _entry(index: int, pool: Pool, asked: EmbeddingRequest) -> dict[str, Any]:
    vector = vector_of(pool, asked)
    told: Any = vector.numbers()
    if asked.base64:
        told = base64.b64encode(vector.little_endian()).decode("ascii")
    return {"object": "embedding", "index": index, "embedding": told}
