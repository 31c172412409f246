"""Which pages of a browser may use the server, and by which names it may be reached.

A page of this machine (http or https on localhost, 127.x or [::1], any port) may read answers, others only where
--cors-origin names them. Without a key a server that listens on a loopback address relies on nobody else reaching it,
but a browser lets any page post plain text to it, and lets a page whose name was made to point at 127.0.0.1 (DNS
rebinding) read it as its own. So there a foreign Origin and a foreign Host are refused.
"""

import ipaddress
import re
import socket
from collections.abc import Iterable
from typing import NamedTuple

ANY = "*"
LOOPBACK_NAME = "localhost"
_DEFAULT_PORTS = {"http": "80", "https": "443"}
_ORIGIN = re.compile(
    r"([a-z][a-z0-9+.-]*)://(\[[0-9a-f:.]+\]|[^\s/\[\]:@?#,]*)(?::(\d{1,5}))?", re.IGNORECASE
)
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^\s/\[\]:@?#,]+)(?::\d{1,5})?", re.IGNORECASE)


class Origin(NamedTuple):
    """scheme://host:port in lower case; the port is empty where it is the scheme's own."""

    scheme: str
    host: str
    port: str

    @property
    def is_of_this_machine(self) -> bool:
        return self.scheme in _DEFAULT_PORTS and is_loopback(self.host)


def parse_origin(text: str) -> Origin | None:
    """None for what is no origin: "null" of a sandboxed page, a URL with a path."""
    match = _ORIGIN.fullmatch(text)
    if match is None:
        return None
    scheme, host, port = match[1].lower(), match[2].lower(), match[3] or ""
    return Origin(scheme, host, "" if port == _DEFAULT_PORTS.get(scheme) else port)


def is_loopback(host: str) -> bool:
    """localhost or an address that never leaves the machine; IPv6 with or without brackets."""
    address = _address(host)
    if address is None:
        return host == LOOPBACK_NAME
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def host_name(text: str) -> str | None:
    """The name or address of a Host header, without its port, in lower case; None for what is no host."""
    match = _HOST.fullmatch(text)
    return match[1].lower().removesuffix(".") if match else None


class OriginPolicy:
    """What holds for one server. Its answers never allow credentials, so that "*" is safe with keys."""

    def __init__(
        self, host: str, has_keys: bool, cors_origins: Iterable[str], allowed_hosts: Iterable[str]
    ) -> None:
        """host: the address to listen on; origins and hosts as the settings have them, checked."""
        origins = tuple(cors_origins)
        self.allows_any = ANY in origins
        self._origins = frozenset(parse_origin(text) or text for text in origins)
        self._is_local = _binds_loopback(host)
        named = tuple(allowed_hosts)
        self._hosts = frozenset(host_name(name) for name in named) | (
            {host.lower()} if self._is_local else set()
        )
        self.guards = bool(named) or (self._is_local and not has_keys)

    def allows_origin(self, text: str, hosts: Iterable[str] = ()) -> bool:
        """Whether a page of this Origin header may read answers. hosts: the request's Host headers, for a page that
        comes from where its request goes to."""
        origin = parse_origin(text)
        if self.allows_any or (origin or text) in self._origins:
            return True
        return origin is not None and (origin.is_of_this_machine or self._is_same(origin, hosts))

    def allows_host(self, text: str) -> bool:
        """Whether this Host header is one of the server's names, at any port.

        A name without a dot is one too: no stranger can own it, so it comes from this machine or its own network (a
        container's name, a script's). Where the server listens to the network, so is every address: a rebound page
        has a name.
        """
        name = host_name(text)
        if name is None:
            return False
        if is_loopback(name) or name in self._hosts or ANY in self._hosts:
            return True
        if _address(name) is not None:
            return not self._is_local
        return "." not in name

    def _is_same(self, origin: Origin, hosts: Iterable[str]) -> bool:
        """A page that the server's own name served, as a proxy in front of it does; only names that are allowed."""
        return self.guards and any(
            self.allows_host(host) and parse_origin(f"{origin.scheme}://{host}") == origin for host in hosts
        )


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None


def _binds_loopback(host: str) -> bool:
    """Whether every address of the name to listen on is a loopback address: many systems give the machine's own
    name 127.0.1.1."""
    if is_loopback(host.lower()) or _address(host) is not None:
        return is_loopback(host.lower())
    try:
        found = {str(info[4][0]) for info in socket.getaddrinfo(host, None)}
    except OSError:
        return False
    return bool(found) and all(map(is_loopback, found))
