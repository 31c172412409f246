"""POST /v1/completions."""

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from starlette.responses import Response

from server import sse
from server.body import read_request
from server.generation import close_all, usage_of
from server.schemas.completions import completion_request
from server.service import Service, collect

router = APIRouter()


@router.post("/v1/completions")
async def completions(request: Request) -> Response:
    service: Service = request.app.state.service
    service.require_ready()
    asked = await read_request(request, completion_request)
    model = service.model_named(asked.model)
    prompts = [
        await service.encode_text(request, p, parse_special=asked.parse_special) if isinstance(p, str) else p
        for p in asked.prompts
    ]
    answers = await service.begin(prompts, asked.params, asked.stops)
    try:
        if asked.stream:
            base = service.base("text_completion", "cmpl", model)
            frames = sse.Frames(
                base,
                chat=False,
                include_usage=asked.include_usage,
                continuous_usage=asked.continuous_usage,
            )
            return sse.EventStream(answers, frames, service.settings, chat=False)
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
