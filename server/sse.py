"""A generation as server-sent events, in the words of a dialect."""

import asyncio
import logging
from collections.abc import AsyncIterator

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from server.envelopes.envelope import Envelope
from server.errors import ApiError
from server.generations.generation import Generation

logger = logging.getLogger("espalier.server")

PING = b": ping\n\n"  # a comment, which clients skip
_HEADERS = {"cache-control": "no-store", "x-accel-buffering": "no"}  # no proxy may hold events back


class EventStream(StreamingResponse):
    """The stream of one client request. Starlette watches for the client to leave, the connection for one that takes
    nothing (http_protocol.py), so that no event needs a timer. However a stream ends, its generation ends too."""

    def __init__(self, generation: Generation, envelope: Envelope, *, ping_seconds: float) -> None:
        body = events(generation, envelope, ping_seconds=ping_seconds)
        super().__init__(body, headers=_HEADERS, media_type="text/event-stream; charset=utf-8")
        self._generation = generation

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._generation.close()


async def events(generation: Generation, envelope: Envelope, *, ping_seconds: float) -> AsyncIterator[bytes]:
    """The whole stream; events that came together are one piece. Comments keep a silent one open.

    Any exception, ours too, ends it in an event that says so: a client cannot tell a stream that stops without one
    from a whole answer.
    """
    loop = asyncio.get_running_loop()
    told = loop.time()
    try:
        if first := envelope.begin(generation):
            yield first
        async for pieces in generation.pieces(wake_seconds=ping_seconds):
            frames = b"".join([envelope.chunk(piece, generation) for piece in pieces])
            # A model may write for long what its client does not see.
            if frames or not pieces or loop.time() - told >= ping_seconds:
                yield frames or PING
                told = loop.time()
        if last := envelope.end(generation):
            yield last
    except ApiError as error:
        yield envelope.error(error)
    except Exception:
        logger.exception("stream %s failed", envelope.answer_id)
        text = f"internal error; the server's log has it under {envelope.answer_id}"
        yield envelope.error(ApiError(500, text))
    yield envelope.done
