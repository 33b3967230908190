"""The boot listener: HTTP on the boot network: boot scripts, boot files and nothing else."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

from starlette.datastructures import QueryParams
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from cuckoo_zfsiscsi.errors import NetbootError, ZfsIscsiError
from cuckoo_zfsiscsi.netboot.boots import Boots
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
"""Seconds after which a request is told to ask again if it is not the only one that waits."""
MOST = 16 << 10
"""Bytes that a client may send over one connection. A request takes 200, and few are made."""
PER_ADDRESS = 8
"""Connections that one address may have at a time: a guest must not lock the others out."""


def create_app(boots: Boots, files: Mapping[str, bytes]) -> ASGIApp:
    """Return the ASGI application; all that it does not serve has one and the same 404.

    A script that is made when it is asked for is waited for by a host that is alone; else, and when
    it takes too long, the answer is a script that asks again, the later the more there are. Then
    the request has not got the script: what it began goes on, and the next one gets what comes of
    it.

    GET /boot.ipxe?mac=... is a host's boot script; GET or HEAD /files/NAME, from a host's address,
    a boot file: for firmware that boots by HTTP (UEFI 2.10, 24.7), which asks for its length first;
    GET /install/NAME, from a host that installs, a file of its medium.

    Args:
        boots: who may have which script.
        files: boot files by name.
    """
    later = render_waits()
    held = 0

    async def made(asked: Future[str]) -> str | None:
        """Wait for a script; None if there will be none. Who made it says why."""
        nonlocal held
        if not asked.done():
            done, end = asyncio.wrap_future(asked), time.monotonic() + HELD
            held += 1
            try:
                while not done.done() and time.monotonic() < end:
                    await asyncio.wait([done], timeout=STEP)
                    if held > 1:
                        break
            finally:
                held -= 1
            # Either it is taken back here, or it is given away: never both
            if asked.cancel():
                return secrets.choice(later[: held + 1])
            with suppress(ZfsIscsiError):
                await done
        return None if asked.exception() else asked.result()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":  # lifespan and websocket events: server_options() has them off
            return
        method, path = scope["method"], scope["path"]
        source, asked = scope["client"][0] if scope["client"] else "", scope["server"][0]
        answer: Response | None = None
        macs = QueryParams(scope["query_string"]).getlist("mac")
        if method == "GET" and path == PATH and len(macs) == 1:
            found = boots.lookup(macs[0], source, asked)
            script = await made(found) if isinstance(found, Future) else found
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
    """HTTP connections that end by themselves, are few per address, and take little.

    On llhttp: with a parser in Python a storm of boots would take twice the time.
    """

    _end: asyncio.TimerHandle | None = None
    _address: tuple[int, str]
    _received = 0
    _open: ClassVar[Counter[tuple[int, str]]] = Counter()
    """By server and client: counted one by one, hundreds at once would wait for each other."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin, unless this address has its share already."""
        super().connection_made(transport)
        self.app_state = {"stay": self._stay}
        self._stay(LIFETIME)
        self._address = (id(self.connections), self.client[0] if self.client else "")
        self._open[self._address] += 1
        if self._open[self._address] > PER_ADDRESS:
            transport.abort()

    def data_received(self, data: bytes) -> None:
        """Take what a client sends, up to MOST bytes in all; the parser itself takes anything."""
        self._received += len(data)
        if self._received > MOST:
            self.send_400_response("Too much.")
        else:
            super().data_received(data)

    def _stay(self, seconds: float) -> None:
        """End the connection so many seconds from now, and not before."""
        if self._end:
            self._end.cancel()
        self._end = self.loop.call_later(seconds, self.transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        if self._end:
            self._end.cancel()
        self._open[self._address] -= 1
        if not self._open[self._address]:
            del self._open[self._address]
        super().connection_lost(exc)


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
        "limit_concurrency": 1024,
        "timeout_graceful_shutdown": 1,
    }
