"""POST /v1/chat/completions."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from server.body import read_request
from server.chat_plan import plan
from server.envelopes.chat import ChatEnvelope
from server.schemas.chat import chat_request
from server.service import Service

router = APIRouter()


@router.post("/v1/chat/completions")
async def chat_completions(request: Request) -> Response:
    service: Service = request.app.state.service
    service.require_ready()
    asked = await read_request(request, chat_request)
    model = service.model_named(asked.model)
    planned = await plan(service, request, asked)
    kind = "chat.completion.chunk" if asked.stream else "chat.completion"
    base = service.base(kind, "chatcmpl", model)
    envelope = ChatEnvelope(base, planned.shape, service.tokenizer)
    return await service.answer(request, [planned.prompt], planned.ask, envelope, stream=asked.stream)
