"""Work that ends when its client leaves. Starlette does this for streams only."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from starlette.requests import Request

from server.errors import ApiError

Result = TypeVar("Result")


async def unless_disconnected(request: Request, work: Callable[[], Awaitable[Result]]) -> Result:
    """The result of work(), which is cancelled when the client leaves; ApiError 499 then."""

    async def until_gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    working, gone = asyncio.ensure_future(work()), asyncio.ensure_future(until_gone())
    try:
        await asyncio.wait({working, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ApiError(499, "the client left before its answer was complete")
        return working.result()
    finally:
        for task in (working, gone):
            task.cancel()
