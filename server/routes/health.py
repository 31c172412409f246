"""GET /health: is the process alive and its engine sound. GET /ready: should a balancer send requests here."""

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from starlette.responses import Response

from server.service import Service

router = APIRouter()


@router.api_route("/health", methods=["GET", "HEAD"])
async def health(request: Request) -> Response:
    service: Service = request.app.state.service
    if service.thread.failure is not None:
        return JSONResponse({"status": "failed"}, status_code=503)
    return JSONResponse({"status": "ok"})


@router.api_route("/ready", methods=["GET", "HEAD"])
async def ready(request: Request) -> Response:
    service: Service = request.app.state.service
    service.require_ready()
    return JSONResponse({"status": "ready"})
