"""HTTP by hand, for what no client library sends: half a request, a broken one, one whose answer is not read."""

import json
import socket
from typing import Any


def connect(url: str, *, receive_buffer: int | None = None) -> socket.socket:
    """receive_buffer: bytes, for clients that do not read; as the kernel rounds it."""
    host, _, port = url.removeprefix("http://").partition(":")
    connection = socket.socket()
    connection.settimeout(30)
    if receive_buffer is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    connection.connect((host, int(port)))
    return connection


def post(body: Any, path: str = "/v1/completions", **headers: str) -> bytes:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"POST {path} HTTP/1.1", "host: x", f"content-length: {len(raw)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + raw


def received(connection: socket.socket) -> bytes:
    """Until the server hangs up."""
    parts = []
    while part := connection.recv(1 << 16):
        parts.append(part)
    return b"".join(parts)


def answer_to(url: str, raw: bytes) -> bytes:
    """What a client gets that sends these bytes and then waits."""
    with connect(url) as connection:
        connection.sendall(raw)
        return received(connection)


def one_answer(connection: socket.socket) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of the next answer; it has a content-length."""
    raw = b""
    while b"\r\n\r\n" not in raw:
        raw += connection.recv(1 << 16) or b"\r\n\r\n"
    head, _, body = raw.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    while len(body) < int(headers["content-length"]):
        body += connection.recv(1 << 16)
    return int(first.split()[1]), headers, body
