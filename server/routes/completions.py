"""POST /v1/completions."""

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from starlette.responses import Response

from server import sse
from server.body import read_json, validated
from server.generation import close_all, usage_of
from server.schemas.completions import LATER, CompletionRequest
from server.schemas.generation import count_unknown, refuse_later_fields
from server.service import Service, collect

router = APIRouter()


@router.post("/v1/completions")
async def completions(request: Request) -> Response:
    service: Service = request.app.state.service
    service.require_ready()
    body = await read_json(request)
    refuse_later_fields(body, LATER)
    asked = validated(CompletionRequest, body)
    count_unknown(body, CompletionRequest, LATER)
    model = service.model_named(asked.model)
    stops, include_usage = asked.stops, asked.include_usage
    params = asked.sampling(asked.limit)
    special = asked.parse_special is not False
    prompts = [
        await service.encode_text(p, parse_special=special) if isinstance(p, str) else p
        for p in asked.prompts
    ]
    answers = await service.begin(prompts, params, stops)
    try:
        if asked.stream:
            base = service.base("text_completion", "cmpl", model)
            frames = sse.Frames(base, chat=False, include_usage=include_usage)
            return sse.response(sse.events(answers, frames, chat=False), service.settings)
        texts = await collect(request, answers)
    except BaseException:
        close_all(answers)
        raise
    choices = [
        {"index": index, "text": text, "logprobs": None, "finish_reason": reason}
        for index, (text, reason) in enumerate(texts)
    ]
    base = service.base("text_completion", "cmpl", model)
    return JSONResponse({**base, "choices": choices, "usage": usage_of(answers).as_dict()})
