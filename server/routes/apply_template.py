"""POST /apply-template: the prompt that a chat is answered from, as llama.cpp tells it."""

import json

from fastapi import APIRouter, Request
from starlette.responses import Response

from server.body import read_request
from server.schemas.chat import chat_request
from server.service import Service
from server.uncut_prompts import chat_prompt

router = APIRouter()


@router.post("/apply-template")
async def apply_template(request: Request) -> Response:
    service: Service = request.app.state.service
    service.require_ready()
    asked = await read_request(request, chat_request)
    service.model_named(asked.model)
    prompt = await chat_prompt(service, request, asked)
    text = prompt.text or ""
    body = await service.text_pool.run(len(text), lambda _: json.dumps({"prompt": text}))
    return Response(body, media_type="application/json")
