"""GET /v1/models and /v1/models/{id}."""

from typing import Any

from fastapi import APIRouter, Request

from server.service import Service

router = APIRouter()


@router.api_route("/v1/models", methods=["GET", "HEAD"])
async def models(request: Request) -> dict[str, Any]:
    return {"object": "list", "data": [_model(request.app.state.service)]}


@router.api_route("/v1/models/{name:path}", methods=["GET", "HEAD"])
async def model(request: Request, name: str) -> dict[str, Any]:
    service: Service = request.app.state.service
    service.model_named(name)
    return _model(service)


def _model(service: Service) -> dict[str, Any]:
    return {
        "id": service.model_id,
        "object": "model",
        "created": service.created,
        "owned_by": "espalier",
        "max_model_len": service.engine.ctx_size,
        "context_length": service.engine.ctx_size,
    }
