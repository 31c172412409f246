"""GET /slots: llama.cpp's view of what runs. Read-only. There are no slots here; one that is busy is a request.

`?fail_on_no_slot=1` answers 503 while all are.
"""

from typing import Any

from fastapi import APIRouter, Request

from server.errors import overloaded
from server.service import Service

router = APIRouter()


@router.api_route("/slots", methods=["GET", "HEAD"])
async def slots(request: Request) -> list[dict[str, Any]]:
    service: Service = request.app.state.service
    n_running = (await service.thread.stats()).n_running
    n_slots = service.engine.max_running
    if n_running >= n_slots and request.query_params.get("fail_on_no_slot") not in (None, "", "0"):
        raise overloaded(f"all {n_slots} slots are busy", retry_after_s=1)
    return [
        {"id": i, "n_ctx": service.engine.ctx_size, "speculative": False, "is_processing": i < n_running}
        for i in range(n_slots)
    ]
