"""POST /v1/chat/completions."""

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from starlette.responses import Response

from server import sse
from server.body import read_request
from server.generation import close_all, usage_of
from server.schemas.chat import chat_request
from server.service import Service, collect

router = APIRouter()


@router.post("/v1/chat/completions")
async def chat_completions(request: Request) -> Response:
    service: Service = request.app.state.service
    service.require_ready()
    asked = await read_request(request, chat_request)
    model = service.model_named(asked.model)
    prompt_ids = await service.encode_chat(request, asked.messages, asked.template_variables)
    answers = await service.begin([prompt_ids], asked.params, [*asked.stops, *service.chat_template.stops])
    try:
        if asked.stream:
            base = service.base("chat.completion.chunk", "chatcmpl", model)
            frames = sse.Frames(
                base,
                chat=True,
                include_usage=asked.include_usage,
                continuous_usage=asked.continuous_usage,
            )
            return sse.EventStream(answers, frames, service.settings, chat=True)
        [(text, reason)] = await collect(request, answers)
    except BaseException:
        close_all(answers)
        raise
    message = {"role": "assistant", "content": text, "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": reason}
    base = service.base("chat.completion", "chatcmpl", model)
    return JSONResponse({**base, "choices": [choice], "usage": usage_of(answers).as_dict()})
