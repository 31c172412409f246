"""POST /v1/completions."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from server.body import read_request
from server.completion_plan import plan
from server.envelopes.text import TextEnvelope
from server.schemas.completions import completion_request
from server.service import Service

router = APIRouter()


@router.post("/v1/completions")
async def completions(request: Request) -> Response:
    service: Service = request.app.state.service
    service.require_ready()
    asked = await read_request(request, completion_request)
    model = service.model_named(asked.model)
    planned = await plan(service, request, asked)
    base = service.base("text_completion", "cmpl", model)
    envelope = TextEnvelope(base, planned.shape, service.tokenizer)
    return await service.answer(request, planned.prompts, planned.ask, envelope, stream=asked.stream)
