"""Connections to the control port: one without a token has little, and not for long.

A connection is unauthenticated until a request over it is allowed (admit()). Until then it may send
little, and ends after LIFETIME, whatever it sends. There may be so many of them: with one more the
oldest of that address goes, or of the address that has most. Never the newest: so a person with the
token, who shows it at once, gets in while somebody else holds all there are. (OpenSSH's MaxStartups
drops new ones, by chance.)

TLS is ours here, not uvicorn's, so that its handshake is counted, too.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from asyncio.sslproto import SSLProtocol
from collections.abc import Callable
from functools import partial
from typing import Any

from starlette.requests import HTTPConnection
from uvicorn.protocols.http.h11_impl import H11Protocol

LIFETIME = 15.0
"""Seconds that an unauthenticated connection has in all. Our own clients show the token at once."""
PER_ADDRESS, IN_ALL = 384, 512
"""Such connections at a time. 300 hosts may be started at once, each by a connection of CAPE's."""
MOST = 64 << 10
"""Bytes that one may send."""
HEADERS = 16 << 10
"""Bytes of a request's line and headers; ours take 300."""
_UCRED = struct.Struct("3i")
"""unix(7): process, user, group."""


class Admission:
    """Where one connection stands: unauthenticated, until it is admitted or gone.

    Args:
        waiting: all that are unauthenticated.
    """

    def __init__(self, waiting: Waiting) -> None:
        self._waiting = waiting
        self._abort: Callable[[], None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._received = 0
        self.address = ""
        """Of the other end; of a unix socket, its user."""

    def begin(self, transport: asyncio.BaseTransport) -> None:
        """Count the connection from its first moment; another one may have to go for it."""
        self._abort = getattr(transport, "abort")  # noqa: B009 - BaseTransport has none, as typed
        self.address = _address(transport.get_extra_info("socket"))
        self._timer = asyncio.get_running_loop().call_later(LIFETIME, self.expel)
        if oldest := self._waiting.add(self):
            oldest.expel()

    def may_send(self, size: int) -> bool:
        """Count so many bytes that came; False if they are too many."""
        self._received += size
        return self._timer is None or self._received <= MOST

    def end(self) -> None:
        """Count the connection no more: it is admitted, or gone."""
        if self._timer:
            self._timer.cancel()
            self._timer = None
            self._waiting.remove(self)

    def expel(self) -> None:
        """Cut the connection."""
        self.end()
        if self._abort:
            self._abort()


class Waiting:
    """All unauthenticated connections of a server.

    Args:
        per_address: at most.
        in_all: at most.
    """

    def __init__(self, per_address: int = PER_ADDRESS, in_all: int = IN_ALL) -> None:
        self._per_address, self._in_all = per_address, in_all
        self._by_address: dict[str, dict[Admission, None]] = {}  # the oldest first
        self._number = 0

    def __len__(self) -> int:
        return self._number

    def add(self, one: Admission) -> Admission | None:
        """Count one; return which has to go for it."""
        same = self._by_address.setdefault(one.address, {})
        same[one] = None
        self._number += 1
        if len(same) > self._per_address:
            return next(iter(same))
        if self._number > self._in_all:
            fullest: dict[Admission, None] = max(self._by_address.values(), key=len)
            return next(iter(fullest))
        return None

    def remove(self, one: Admission) -> None:
        """Count one no more."""
        same = self._by_address[one.address]
        del same[one]
        self._number -= 1
        if not same:
            del self._by_address[one.address]


class ControlProtocol(H11Protocol):
    """HTTP/1.1 whose requests can admit their connection, and tell whose it is.

    Each request's state has `admit`, to be called when it is allowed; `address` of the other end;
    and `peer`, who has the other end of a unix socket.

    Args:
        admission: of the connection.
        options: uvicorn's.
    """

    def __init__(self, admission: Admission, **options: Any) -> None:  # noqa: ANN401 - uvicorn's
        super().__init__(**options)
        self._admission = admission

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin; the handshake of TLS is over."""
        if not self._admission.address:
            self._admission.begin(transport)
        address = self._admission.address
        self.app_state = {
            **self.app_state,
            "admit": self._admission.end,
            "address": address,
            "peer": address if address.startswith("uid ") else "",
        }
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """Take what the other end sends, as far as it may."""
        if self._admission.may_send(len(data)):
            super().data_received(data)
        else:
            self._admission.expel()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._admission.end()
        super().connection_lost(exc)


class _Tls(SSLProtocol):
    """TLS around a ControlProtocol; the connection is counted before its handshake."""

    def __init__(
        self, admission: Admission, inside: asyncio.Protocol, context: ssl.SSLContext
    ) -> None:
        loop = asyncio.get_running_loop()
        super().__init__(
            loop,
            inside,
            context,
            None,  # type: ignore[arg-type] # nobody waits for it
            server_side=True,
            ssl_handshake_timeout=int(LIFETIME),
        )
        self._admission = admission

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, before the handshake."""
        self._admission.begin(transport)
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        """End, also of a handshake that came to nothing."""
        self._admission.end()
        super().connection_lost(exc)


def admit(request: HTTPConnection) -> None:
    """Note that a request is allowed, and with it its connection."""
    end = request.scope.get("state", {}).get("admit")
    if end is not None:
        end()


def address_of(request: HTTPConnection) -> str:
    """Return who has the other end of a request's connection, whatever its headers say."""
    return str(request.scope.get("state", {}).get("address") or "nobody")


def server_options(tls: ssl.SSLContext | None) -> dict[str, Any]:
    """Return what uvicorn.Config needs besides its application.

    Args:
        tls: how connections are encrypted; None: they are not.
    """
    return {
        "http": partial(_make, Waiting(), tls),
        "h11_max_incomplete_event_size": HEADERS,
        "ws": "none",
        "lifespan": "off",
        "server_header": False,
        "access_log": False,
    }


def _make(waiting: Waiting, tls: ssl.SSLContext | None, **options: Any) -> asyncio.Protocol:  # noqa: ANN401 - uvicorn's
    """Return the protocol of one connection."""
    admission = Admission(waiting)
    inside = ControlProtocol(admission, **options)
    return _Tls(admission, inside, tls) if tls else inside


def _address(end: socket.socket) -> str:
    try:
        if end.family == socket.AF_UNIX:
            found = end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
            return f"uid {_UCRED.unpack(found)[1]}"
        return str(end.getpeername()[0])
    except OSError:  # it has gone already
        return "nobody"
