"""POST /v1/chat/completions/input_tokens: how long a chat's prompt is, as llama.cpp tells it."""

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from starlette.responses import Response

from server.body import read_request
from server.schemas.chat import chat_request
from server.service import Service
from server.uncut_prompts import chat_prompt

router = APIRouter()


@router.post("/v1/chat/completions/input_tokens")
async def input_tokens(request: Request) -> Response:
    service: Service = request.app.state.service
    service.require_ready()
    asked = await read_request(request, chat_request)
    service.model_named(asked.model)
    prompt = await chat_prompt(service, request, asked)
    return JSONResponse({"object": "response.input_tokens", "input_tokens": len(prompt.token_ids)})
