"""GET /: what this server is and which routes it has. GET /version: which build."""

from typing import Any

from fastapi import APIRouter, Request

from server.paths import VERSION, methods_by_path
from server.service import Service, package_version

router = APIRouter()


@router.api_route("/", methods=["GET", "HEAD"])
async def about(request: Request) -> dict[str, Any]:
    service: Service = request.app.state.service
    return {
        "name": "espalier",
        "version": package_version(),
        "model": service.model_id,
        "base_path": VERSION,
        "routes": [
            f"{method} {path}"
            for path, methods in methods_by_path(request.app.state.routes).items()
            for method in methods
        ],
        "documentation": "/docs",
    }


@router.api_route("/version", methods=["GET", "HEAD"])
async def version() -> dict[str, str]:
    return {"version": package_version()}
