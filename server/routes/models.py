"""GET /v1/models and /v1/models/{id}: the one model under each of its ids."""

from typing import Any

from fastapi import APIRouter, Request

from server.schemas.field_table import FIELDS
from server.schemas.fields import CHAT, Use
from server.service import Service

router = APIRouter()


@router.api_route("/v1/models", methods=["GET", "HEAD"])
async def models(request: Request) -> dict[str, Any]:
    service: Service = request.app.state.service
    return {"object": "list", "data": [_model(service, name) for name in service.models]}


@router.api_route("/v1/models/{name:path}", methods=["GET", "HEAD"])
async def model(request: Request, name: str) -> dict[str, Any]:
    service: Service = request.app.state.service
    return _model(service, service.model_named(name))


def _model(service: Service, name: str) -> dict[str, Any]:
    facts, ctx_size = service.engine.facts, service.engine.ctx_size
    return {
        "id": name,
        "object": "model",
        "created": service.created,
        "owned_by": "espalier",
        "aliases": list(service.models),
        "max_model_len": ctx_size,
        "context_length": ctx_size,
        "capabilities": _capabilities(service),
        "architecture": {"input_modalities": ["text"], "output_modalities": ["text"]},
        "meta": {
            "n_ctx_train": facts.n_ctx_train,
            "n_vocab": service.engine.n_vocab,
            "n_embd": facts.n_embd,
            "n_params": facts.n_weights,
            "size": facts.file_bytes,
        },
    }


def _capabilities(service: Service) -> list[str]:
    """In Ollama's words, which llama.cpp uses too."""
    takes_tools = FIELDS.of_route(CHAT)["tools"].use is Use.HONOURED
    has = {
        "completion": True,
        "embedding": True,
        "insert": service.tokenizer.fill_middle is not None,
        "tools": takes_tools and service.answer_format.calls is not None,
        "thinking": service.answer_format.thoughts is not None,
    }
    return [name for name, here in has.items() if here]
