"""The boot listener: HTTP on the boot network that serves boot scripts and nothing else."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from cuckoo_zfsiscsi.netboot.boots import Boots

PATH = "/boot.ipxe"
LIFETIME = 10.0
"""Seconds that a connection may last in all. An answer takes a millisecond."""
PER_ADDRESS = 8
"""Connections that one address may have at a time: a guest must not lock the others out."""


def create_app(boots: Boots) -> ASGIApp:
    """Return the ASGI application: GET /boot.ipxe?mac=..., and one and the same 404 otherwise."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":  # lifespan and websocket events: server_options() has them off
            return
        request = Request(scope)
        script = None
        macs = request.query_params.getlist("mac")
        if request.method == "GET" and request.url.path == PATH and len(macs) == 1:
            source = request.client.host if request.client else ""
            script = boots.lookup(macs[0], source)
        if script is None:
            answer = PlainTextResponse("not found\n", 404)
        else:
            answer = PlainTextResponse(script, headers={"Cache-Control": "no-store"})
        await answer(scope, receive, send)

    return app


class BoundedProtocol(H11Protocol):
    """HTTP connections that end by themselves, and are few per address."""

    _end: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin, unless this address has its share already."""
        super().connection_made(transport)
        self._end = self.loop.call_later(LIFETIME, transport.abort)
        if sum(map(self._is_same_client, self.connections)) > PER_ADDRESS:
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        if self._end:
            self._end.cancel()
        super().connection_lost(exc)

    def _is_same_client(self, other: object) -> bool:
        theirs = getattr(other, "client", None)
        return bool(self.client and theirs and theirs[0] == self.client[0])


def server_options() -> dict[str, Any]:
    """Return what uvicorn.Config needs besides app, host and port."""
    return {
        "http": BoundedProtocol,
        "ws": "none",
        "lifespan": "off",
        "server_header": False,
        "date_header": False,
        "proxy_headers": False,
        "access_log": False,
        "h11_max_incomplete_event_size": 4096,
        "limit_concurrency": 1024,
        "timeout_graceful_shutdown": 1,
    }
