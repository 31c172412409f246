"""What every request passes before a route sees it, as one pure ASGI layer: an id, the key, limits on its body.

Not starlette's BaseHTTPMiddleware, which stands between a stream and its client's disconnect.
"""

import asyncio
import contextlib
import hmac
import logging
import re
import time
import uuid
from collections.abc import Iterable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.admission import Admission
from server.errors import ApiError, internal
from server.settings import Settings

logger = logging.getLogger("espalier.access")

DISCARD_SECONDS = 5.0  # for the rest of a body that is refused, and how many times
DISCARD_BODIES = 4  # the largest allowed body of it is taken
OPEN_PATHS = frozenset({"/health", "/ready"})
BODILESS = frozenset({"GET", "HEAD", "OPTIONS"})  # methods whose requests cost the engine nothing
_SANE_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


class Gate:
    """Adds x-request-id to every answer; refuses requests without a key, too large, too slow or too many."""

    def __init__(self, app: ASGIApp, settings: Settings, admission: Admission) -> None:
        self.app = app
        self.settings = settings
        self.admission = admission
        self._keys = tuple(key.encode("ascii") for key in settings.api_keys)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        exchange = _Exchange(scope, receive, send, self.settings, self.admission)
        self.admission.n_requests += 1
        try:
            self._authorize(scope)
            if scope["path"] not in OPEN_PATHS:
                self.admission.check(has_body=scope["method"] not in BODILESS)
            exchange.check_declared_length()
            if scope["method"] not in BODILESS:
                await exchange.receive_first()
            await self.app(scope, exchange.receive, exchange.send)
        except ApiError as error:
            await exchange.refuse(error)
        except _NotReceived as cause:
            await exchange.refuse(cause.error)
        except Exception:
            logger.exception("request %s failed", exchange.request_id)
            if exchange.has_begun:
                raise  # the connection must be closed, or the client would wait for the rest
            await exchange.refuse(internal(exchange.request_id))
        finally:
            self.admission.n_requests -= 1
            exchange.end()

    def _authorize(self, scope: Scope) -> None:
        if not self._keys or scope["path"] in OPEN_PATHS or scope["method"] == "OPTIONS":
            return
        given = _bearer(scope["headers"])
        # Every key is compared, so the time says neither which one nor how much of it was right.
        if not sum(hmac.compare_digest(given, key) for key in self._keys):
            raise ApiError(
                401,
                "missing or wrong API key; send it as 'Authorization: Bearer KEY'",
                code="invalid_api_key",
                headers={"www-authenticate": "Bearer"},
            )


class _NotReceived(Exception):
    """The body did not come as it should. An ApiError the application would answer, and keep the connection."""

    def __init__(self, error: ApiError) -> None:
        super().__init__(error.message)
        self.error = error


class _Exchange:
    """One request and its answer."""

    def __init__(
        self, scope: Scope, receive: Receive, send: Send, settings: Settings, admission: Admission
    ) -> None:
        self._admission = admission
        self._is_inside = False
        self._scope, self._receive, self._send, self._settings = scope, receive, send, settings
        given = _header(scope["headers"], b"x-request-id").decode("latin-1")
        self.request_id = given if _SANE_ID.fullmatch(given) else uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = self.request_id
        self._started = time.monotonic()
        self._received = 0
        self._whole = False
        self._first: Message | None = None  # received, and not yet asked for by the application
        self._status = 0

    def check_declared_length(self) -> None:
        declared = _header(self._scope["headers"], b"content-length")
        if declared.isdigit() and int(declared) > self._settings.max_body_bytes:
            raise self._too_large()

    async def receive_first(self) -> None:
        """The body's first part, which is all of it for most: what is refused then has not been near a route."""
        self._first = await self.receive()

    async def receive(self) -> Message:
        if self._first is not None:
            message, self._first = self._first, None
            return message
        if self._whole:
            return await self._receive()  # only a disconnect can follow
        try:
            async with asyncio.timeout(self._started + self._settings.receive_seconds - time.monotonic()):
                message = await self._receive()
        except TimeoutError:
            seconds = self._settings.receive_seconds
            late = ApiError(408, f"the request did not arrive whole within {seconds:g} s")
            raise _NotReceived(late) from None
        if message["type"] == "http.request":
            self._take_in(len(message.get("body", b"")), is_last=not message.get("more_body", False))
        return message

    def _take_in(self, n_bytes: int, *, is_last: bool) -> None:
        """Raises _NotReceived for a body that is too large, ApiError when it is there but no place is left."""
        self._received += n_bytes
        self._whole = is_last
        if self._received > self._settings.max_body_bytes:
            raise _NotReceived(self._too_large())
        if self._whole and self._received:
            self._admission.enter()
            self._is_inside = True

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            took_ms = (time.monotonic() - self._started) * 1e3
            message["headers"] = [
                *message.get("headers", ()),
                (b"x-request-id", self.request_id.encode("latin-1")),
                (b"openai-processing-ms", str(round(took_ms)).encode()),
            ]
        await self._send(message)

    @property
    def has_begun(self) -> bool:
        return self._status != 0

    async def refuse(self, error: ApiError) -> None:
        """Answer at once; what the client is still sending is taken afterwards, within bounds, because closing on it
        would lose it the answer."""
        if self.has_begun:  # all that is left is to end it
            return
        body = error.body()
        headers = {"content-type": "application/json", "content-length": str(len(body)), **error.headers}
        if not self._whole:
            headers["connection"] = "close"
        raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
        await self.send({"type": "http.response.start", "status": error.status, "headers": raw})
        await self._send({"type": "http.response.body", "body": body, "more_body": not self._whole})
        if not self._whole:
            await self._discard_rest()
            await self._send({"type": "http.response.body"})

    async def _discard_rest(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(self._settings.receive_seconds, DISCARD_SECONDS)):
                while not self._whole and self._received < DISCARD_BODIES * self._settings.max_body_bytes:
                    message = await self._receive()
                    self._received += len(message.get("body", b""))
                    self._whole = message["type"] != "http.request" or not message.get("more_body", False)

    def end(self) -> None:
        """Give the place back and write the line of the log."""
        if self._is_inside:
            self._admission.leave()
        self._log()

    def _log(self) -> None:
        took_ms = (time.monotonic() - self._started) * 1e3
        path = ascii(self._scope["path"])[1:-1][:100]
        logger.info(
            "%s %s %d %.0fms id=%s", self._scope["method"], path, self._status, took_ms, self.request_id
        )

    def _too_large(self) -> ApiError:
        return ApiError(413, f"the body is larger than {self._settings.max_body_bytes} bytes")


def _header(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> bytes:
    return next((value for key, value in headers if key == name), b"")


def _bearer(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    scheme, _, key = _header(headers, b"authorization").partition(b" ")
    return key.strip() if scheme.lower() == b"bearer" else _header(headers, b"x-api-key")
