"""The boot listener: HTTP on the boot network: boot scripts, boot files and nothing else."""

from __future__ import annotations

import asyncio
import functools
import logging
import secrets
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any

from starlette.datastructures import QueryParams
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from cuckoo_zfsiscsi.errors import NetbootError, ZfsIscsiError
from cuckoo_zfsiscsi.netboot.boots import Boots
from cuckoo_zfsiscsi.netboot.clients import Clients
from cuckoo_zfsiscsi.netboot.describe import FILES, INSTALL
from cuckoo_zfsiscsi.netboot.script import render_waits

PATH = "/boot.ipxe"
LIFETIME = 30.0
"""Seconds that a connection may last in all."""
INSTALL_LIFETIME = 1800.0
"""Seconds for one file of an installation medium: Windows' boot.wim has half a gigabyte or more."""
HELD = 20.0
"""Seconds for which a request may wait for its script: its host's disk is reset meanwhile."""
STEP = 0.1
"""Seconds after which a request is told to ask again if another host waits, too."""
MOST = 16 << 10
"""Bytes that a client may send over one connection. A request takes 200, and few are made."""

_parser_log = logging.getLogger("uvicorn.error.boot")
_parser_log.setLevel(logging.ERROR)  # what a guest sends is told by Offences, so often and no more


def create_app(boots: Boots, files: Mapping[str, bytes], clients: Clients) -> ASGIApp:
    """Return the ASGI application; all that it does not serve has one and the same 404.

    A script that is made when it is asked for is waited for by a host that is alone; else, and when
    it takes too long, the answer is a script that asks again, the later the more there are. Then
    the request has not got the script: what it began goes on, and the next one gets what comes of
    it.

    GET /boot.ipxe?mac=... is a host's boot script; GET or HEAD /files/NAME, from a host's address,
    a boot file: for firmware that boots by HTTP (UEFI 2.10, 24.7), which asks for its length first;
    GET /install/NAME, from a host that installs, a file of its medium. A host that asks too much is
    told to ask again, too, and is not listened to any further.

    Args:
        boots: who may have which script.
        files: boot files by name.
        clients: who may ask how much.
    """
    later = render_waits()
    held: Counter[str] = Counter()

    async def made(asked: Future[str], source: str) -> str | None:
        """Wait for a script; None if there will be none. Who made it says why."""
        if not asked.done():
            done, end = asyncio.wrap_future(asked), time.monotonic() + HELD
            held[source] += 1
            try:
                while not done.done() and time.monotonic() < end:
                    await asyncio.wait([done], timeout=STEP)
                    if len(held) > 1:
                        break
            finally:
                held[source] -= 1
                if not held[source]:
                    del held[source]
            # Either it is taken back here, or it is given away: never both
            if asked.cancel():
                return secrets.choice(later[: len(held) + 1])
            with suppress(ZfsIscsiError):
                await done
        return None if asked.exception() else asked.result()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":  # lifespan and websocket events: server_options() has them off
            return
        method, path = scope["method"], scope["path"]
        source, asked = scope["client"][0] if scope["client"] else "", scope["server"][0]
        answer: Response | None = None
        if not clients.may_ask(source):
            boots.offences.tell(source, "asks the boot listener too much")
            await _later(path, secrets.choice(later))(scope, receive, send)
            return
        macs = QueryParams(scope["query_string"]).getlist("mac")
        if method == "GET" and path == PATH and len(macs) == 1:
            found = boots.lookup(macs[0], source, asked)
            script = await made(found, source) if isinstance(found, Future) else found
            if script is not None:
                answer = PlainTextResponse(script, headers={"Cache-Control": "no-store"})
        else:
            if method in ("GET", "HEAD") and path.startswith(FILES):
                content = files.get(path.removeprefix(FILES))
                if content is not None and boots.knows(source, asked):
                    answer = Response(content, media_type="application/efi")
            elif method == "GET" and path.startswith(INSTALL):
                file = boots.lookup_file(path.removeprefix(INSTALL), source, asked)
                if file is not None and file.is_file():
                    scope["state"]["stay"](INSTALL_LIFETIME)
                    answer = FileResponse(file, media_type="application/octet-stream")
            if answer is None:
                what = f"{method[:10]} {path[:80]}"
                boots.offences.tell(source, f"asks the boot listener for {what!r}")
        await (answer or PlainTextResponse("not found\n", 404))(scope, receive, send)

    return app


def _later(path: str, script: str) -> Response:
    """Return the answer to who asks too much. For a script it is one: no firmware gives up then."""
    end = {"Connection": "close", "Cache-Control": "no-store"}
    if path == PATH:
        return PlainTextResponse(script, headers=end)
    return PlainTextResponse("too many requests\n", 429, headers=end)


def read_files(root: Path, names: Iterable[str]) -> dict[str, bytes]:
    """Read boot files; they are small, and what is served does not change while we run.

    Args:
        root: their folder, tftp_root.
        names: of the files, inside it.

    Raises:
        NetbootError: one can't be read.
    """
    try:
        return {name: (root / name).read_bytes() for name in names}
    except OSError as error:
        raise NetbootError(
            f"the boot file {error.filename} can't be read: {error.strerror}",
            fix="apt install ipxe; or set boot_file of the host, or tftp_root in [netboot]",
        ) from None


class BoundedProtocol(HttpToolsProtocol):
    """HTTP connections of known hosts, that end by themselves, are few per host, and take little.

    On llhttp: with a parser in Python a storm of boots would take twice the time.
    """

    _end: asyncio.TimerHandle | None = None
    _is_admitted = False
    _received = 0

    def __init__(self, *args: Any, clients: Clients, boots: Boots, **kwargs: Any) -> None:  # noqa: ANN401 - uvicorn's
        super().__init__(*args, **kwargs)
        self.logger = _parser_log
        self._clients, self._offences = clients, boots.offences

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin, if this is a host that has its share not used up already."""
        super().connection_made(transport)
        self._source = self.client[0] if self.client else ""
        asked = self.server[0] if self.server else ""
        if why := self._clients.refuse(self, self._source, asked):
            what = f"connects to the boot listener at {asked}, and is dropped: {why}"
            self._offences.tell(self._source, what)
            transport.abort()
            return
        self._is_admitted = True
        self.app_state = {"stay": self._stay}
        self._stay(LIFETIME)

    def data_received(self, data: bytes) -> None:
        """Take what a client sends, up to MOST bytes in all; the parser itself takes anything."""
        if not self._is_admitted:
            return
        self._received += len(data)
        if self._received > MOST:
            self.send_400_response("Too much.")
        else:
            super().data_received(data)

    def send_400_response(self, msg: str) -> None:
        """Answer what is no request, or none that is taken, and end."""
        self._offences.tell(self._source, "sends the boot listener what is no request")
        super().send_400_response(msg)

    def abort(self) -> None:
        """End the connection, at once."""
        self.transport.abort()

    def _stay(self, seconds: float) -> None:
        """End the connection so many seconds from now, and not before."""
        if self._end:
            self._end.cancel()
        self._end = self.loop.call_later(seconds, self.transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        if self._end:
            self._end.cancel()
        if self._is_admitted:
            self._clients.leave(self, self._source)
        super().connection_lost(exc)


def server_options(boots: Boots, clients: Clients) -> dict[str, Any]:
    """Return what uvicorn.Config needs besides app, host and port.

    Args:
        boots: whose hosts are served.
        clients: who may connect; the same that the application has.
    """
    return {
        "http": functools.partial(BoundedProtocol, clients=clients, boots=boots),
        "ws": "none",
        "lifespan": "off",
        "server_header": False,
        "date_header": False,
        "proxy_headers": False,
        "access_log": False,
        "timeout_graceful_shutdown": 1,
    }
