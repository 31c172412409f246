"""POST /v1/chat/completions/render: a chat in the words of the engine, as vLLM tells it: token ids and parameters."""

import uuid
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from starlette.responses import Response

from server.body import read_request
from server.chat_plan import plan
from server.generations.choice import Ask
from server.schemas.chat import chat_request
from server.service import Service

router = APIRouter()


@router.post("/v1/chat/completions/render")
async def render(request: Request) -> Response:
    service: Service = request.app.state.service
    service.require_ready()
    asked = await read_request(request, chat_request)
    model = service.model_named(asked.model)
    planned = await plan(service, request, asked)
    service.engine.validate(planned.prompt.token_ids, planned.ask.params)
    return JSONResponse(
        {
            "request_id": f"chatcmpl-{uuid.uuid4().hex}",
            "model": model,
            "token_ids": list(planned.prompt.token_ids),
            "sampling_params": _sampling(planned.ask),
            "stream": asked.stream,
        }
    )


def _sampling(ask: Ask) -> dict[str, Any]:
    params = {f.name: _plain(getattr(ask.params, f.name)) for f in fields(ask.params)}
    return {**params, "n": ask.n, "stop": list(ask.stops)}


def _plain(value: Any) -> Any:
    """A parameter as JSON has it."""
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, Mapping):
        return {str(key): each for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, tuple) else value
