"""uvicorn's httptools protocol, told what it must not wait for and what it must not take.

uvicorn waits for ever on a half-sent request and on a client that does not read, httptools takes heads of any length,
and both refuse in plain text. Here a head has a deadline and a size, a client that takes nothing is cut off, the
connection that has waited longest makes room for a new one when there are too many, and every refusal is the API's
JSON with a request id. What a request says twice, or in two ways, about its length is refused by httptools itself.
"""

import asyncio
import collections
import functools
import logging
import uuid
from collections.abc import Callable
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from server.admission import Admission
from server.errors import ApiError

logger = logging.getLogger("espalier.access")

HEAD_SECONDS = 30.0
MAX_HEAD_BYTES = 64 << 10  # a head may have, and trailers and chunk framing beside what they frame
FRAMING_PER_BODY_BYTE = 8  # a chunk of one byte comes in five bytes of framing
STARTS_A_ROUND = 2  # requests with bodies that begin in one round of the event loop, in a crowd
MAX_PIPELINED = 8  # requests that wait on their connection for the answer before them
_OFFER = (b"connection", b"upgrade", b"http2-settings")  # the headers that offer another protocol
DISCARD_SECONDS = 5.0  # for a refused client to stop sending and read its answer
DISCARD_BYTES = 64 << 20
_BODILESS_NAMES = ("GET", "HEAD", "OPTIONS")  # methods whose requests cost the engine nothing
_BODILESS = tuple(name.encode() for name in _BODILESS_NAMES)
_HEAD_TOO_LARGE = ApiError(431, f"the request's head is larger than {MAX_HEAD_BYTES} bytes")


class Connections:
    """What the connections of one server share: their limits, and which of them wait for a request."""

    def __init__(self, max_connections: int, send_seconds: float, admission: Admission) -> None:
        self.max_connections = max_connections
        self.send_seconds = send_seconds  # 0: no limit
        self.admission = admission
        self._starts: collections.deque[Callable[[], None]] = collections.deque()
        self.waiting: dict[GuardedProtocol, None] = {}  # the longest wait first

    def start(self, request: Callable[[], None]) -> None:
        """Run it, or in a crowd in its turn: a few in each round of the event loop.

        So a round is short, and a request that is refused, or a probe, does not wait for all that were let in.
        """
        if self.admission.n_complete <= STARTS_A_ROUND and not self._starts:
            request()
            return
        if not self._starts:
            asyncio.get_running_loop().call_soon(self._start_some)
        self._starts.append(request)

    def _start_some(self) -> None:
        for _ in range(min(STARTS_A_ROUND, len(self._starts))):
            self._starts.popleft()()
        if self._starts:
            asyncio.get_running_loop().call_soon(self._start_some)


class GuardedProtocol(HttpToolsProtocol):
    """One connection. `connections` is shared by all of a server."""

    def __init__(self, *args: Any, connections: Connections, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._shared = connections
        self._running: RequestResponseCycle | None = None  # super's `cycle` is the newest, which may wait
        self._refusal = ApiError(400, "the request is not well-formed HTTP/1.1")
        self._inside: set[RequestResponseCycle] = set()  # those that `admission.n_complete` counts
        self._is_offer = False  # the request offers another protocol
        self._deaf = False  # what comes is no longer parsed
        self._discarded = 0
        self._n_fed = self._n_body = self._n_head = 0  # bytes of the request that is coming in
        self._head_timer: asyncio.TimerHandle | None = None
        self._send_timer: asyncio.TimerHandle | None = None

    # The connection.

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        # With this limit pause_writing tells of each byte that the client does not take.
        transport.set_write_buffer_limits(high=0)
        self._wait_for_head()
        if len(self.connections) > self._shared.max_connections:
            oldest = next(iter(self._shared.waiting))
            if oldest is not self:  # else all are being answered, and the gate refuses what is not a probe
                oldest._stop_waiting()
                oldest.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        _cancel(self._send_timer)
        self.pipeline.clear()
        for cycle in list(self._inside):
            self._leave(cycle)
        if self._running is not None and not self._running.response_complete:
            self._running.disconnected = True
            self._running.message_event.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            self._discard(len(data))
            return
        if self._head_timer is None and not self._is_answering():
            self._wait_for_head()
        self._n_fed += len(data)
        self._feed(data)
        framing = self._n_fed - self._n_body
        if framing > MAX_HEAD_BYTES + FRAMING_PER_BODY_BYTE * self._n_body and not self._deaf:
            self._refuse(_HEAD_TOO_LARGE)

    def _feed(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            self._feed_again(data[offer.args[0] :])
        except httptools.HttpParserError:
            self._refuse(self._refusal)

    def _feed_again(self, rest: bytes) -> None:
        """Decline an offer of another protocol, as Java's client makes it: httptools would end the request with its
        head, so it gets the head anew without the offer, and then what came after the head."""
        method, version = self.parser.get_method(), self.parser.get_http_version().encode()
        kept = [name + b": " + value for name, value in self.headers if name not in _OFFER]
        head = b"\r\n".join([b"%b %b HTTP/%b" % (method, self.url, version), *kept, b"\r\n"])
        self._is_offer = False
        self.parser = httptools.HttpRequestParser(self)
        self._feed(head + rest)

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _wait_for_head(self) -> None:
        self._stop_waiting()
        self._shared.waiting[self] = None
        self._head_timer = self.loop.call_later(HEAD_SECONDS, self.transport.abort)

    def _stop_waiting(self) -> None:
        self._shared.waiting.pop(self, None)
        _cancel(self._head_timer)
        self._head_timer = None

    # A request, as httptools parses it.

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._n_fed = self._n_body = self._n_head = 0

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self._count_head(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count_head(len(name) + len(value) + 4)
        if "path" not in self.scope:  # a trailer, after the body, is no header
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        problem = _problem(self.parser.get_http_version(), self.headers)
        if problem is not None:
            self._fail(ApiError(400, problem))
        self._is_offer = self.parser.should_upgrade()
        if self._is_offer:
            if self.parser.get_method() == b"CONNECT":
                self._fail(ApiError(400, "this server is no proxy"))
            return
        if len(self.pipeline) >= MAX_PIPELINED:
            self._fail(ApiError(400, "too many requests at once on one connection"))
        self._refuse_when_full()
        self._stop_waiting()
        super().on_headers_complete()
        self.flow.resume_reading()  # also while requests wait, or nobody would see the client leave

    def on_body(self, body: bytes) -> None:
        self._n_body += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self._is_offer:
            return
        if self.scope["method"] not in _BODILESS_NAMES and not self.cycle.response_complete:
            self._inside.add(self.cycle)
            self._shared.admission.n_complete += 1
        super().on_message_complete()

    def on_response_complete(self) -> None:
        self._leave(self._running)
        super().on_response_complete()
        if not self._is_answering() and not self.transport.is_closing():
            self._shared.waiting[self] = None  # idle: first to make room, and closed by super's own timer

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        if cycle.scope["method"] in _BODILESS_NAMES:
            super()._start_asgi_task(cycle, app)
        else:
            self._shared.start(functools.partial(super()._start_asgi_task, cycle, app))

    def _count_head(self, n_bytes: int) -> None:
        self._n_head += n_bytes
        if self._n_head > MAX_HEAD_BYTES:
            self._fail(_HEAD_TOO_LARGE)

    def _refuse_when_full(self) -> None:
        """Before anything is made for the request. A page's request goes on to where CORS headers are added,
        and one that waits for the answer before it to where it can have its own."""
        has_origin = any(name == b"origin" for name, _ in self.headers)
        if has_origin or self._is_answering() or self.parser.get_method() in _BODILESS:
            return
        refusal = self._shared.admission.refusal_at_head()
        if refusal is not None:
            self._fail(refusal)

    def _leave(self, cycle: RequestResponseCycle | None) -> None:
        if cycle in self._inside:
            self._inside.remove(cycle)
            self._shared.admission.n_complete -= 1

    def _fail(self, refusal: ApiError) -> None:
        """From a callback: end the parsing. httptools makes it an error of its own."""
        self._refusal = refusal
        raise ValueError(refusal.message)

    # Refusals.

    def _refuse(self, refusal: ApiError) -> None:
        """Answer what cannot become a request, if nothing else is being answered, and close."""
        self._deaf = True
        if self._is_answering():
            self.cycle.keep_alive = False
            if self.pipeline or self.cycle.response_started or not self.cycle.more_body:
                return  # what is wrong came after a whole request, which still has its answer
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self._stop_waiting()
        request_id = uuid.uuid4().hex
        logger.info("refused %d: %s id=%s", refusal.status, refusal.message, request_id)
        body = refusal.body()
        headers = [
            *self.server_state.default_headers,
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
            (b"x-request-id", request_id.encode()),
            *((name.encode(), value.encode()) for name, value in refusal.headers.items()),
        ]
        lines = [name + b": " + value + b"\r\n" for name, value in headers]
        self.transport.write(b"".join([STATUS_LINE[refusal.status], *lines, b"\r\n", body]))
        # Closing on a client that is still sending would lose it the answer.
        self.transport.write_eof()
        self._head_timer = self.loop.call_later(DISCARD_SECONDS, self.transport.abort)

    def _discard(self, n_bytes: int) -> None:
        self._discarded += n_bytes
        if self._discarded > DISCARD_BYTES:
            self.transport.abort()

    # A client that does not read.

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._shared.send_seconds:
            self._watch_writing()

    def resume_writing(self) -> None:
        super().resume_writing()
        _cancel(self._send_timer)

    def _watch_writing(self) -> None:
        left = self.transport.get_write_buffer_size()
        self._send_timer = self.loop.call_later(self._shared.send_seconds, self._check_writing, left)

    def _check_writing(self, left_before: int) -> None:
        """Nothing is written while writing is paused, so a buffer that is no smaller is one nobody reads from."""
        if self.transport.get_write_buffer_size() < left_before:
            self._watch_writing()
        else:
            logger.info("cut off a client that reads nothing, %d bytes unsent", left_before)
            self.transport.abort()  # close() would wait for these bytes to go out


def guarded(max_connections: int, send_seconds: float, admission: Admission) -> Any:
    """The protocol factory of one server, for uvicorn's `http` (which is typed as a class)."""
    connections = Connections(max_connections, send_seconds, admission)

    def protocol(*args: Any, **kwargs: Any) -> GuardedProtocol:
        return GuardedProtocol(*args, connections=connections, **kwargs)

    return protocol


def _problem(version: str, headers: list[tuple[bytes, bytes]]) -> str | None:
    """What httptools lets through and a server must not."""
    hosts = [value for name, value in headers if name == b"host"]
    codings = [value.strip().lower() for name, value in headers if name == b"transfer-encoding"]
    if version not in ("1.0", "1.1"):
        return "this server speaks HTTP/1.1"
    if len(hosts) > 1 or (version == "1.1" and not hosts):
        return "a request needs one Host header"
    if codings and (codings != [b"chunked"] or version == "1.0"):
        return "the only Transfer-Encoding a request may have is chunked"
    return None


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()
