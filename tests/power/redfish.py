"""Redfish BMCs on 127.0.0.1: sushy-tools' emulator, over TLS, with faults in front of it."""

from __future__ import annotations

import contextlib
import secrets
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import flask
from pydantic import SecretStr
from werkzeug.serving import make_server

from cuckoo_zfsiscsi.config import PowerUrl
from cuckoo_zfsiscsi.lab import certificate
from cuckoo_zfsiscsi.lab.redfish import Wsgi, make_emulator, with_users, write_users
from cuckoo_zfsiscsi.power.redfish import Redfish, connect

EMULATOR: list[Wsgi] = []


class Systems:
    """What one BMC switches; `effect` is told of each switch that happens."""

    def __init__(self, count: int = 1) -> None:
        self.power = {str(number): False for number in range(1, count + 1)}
        self.stays_on = self.stays_off = self.says_off = False
        self.deaf = 0
        self.effect: Callable[[str, bool], None] = lambda system, on: None

    def systems(self) -> list[str]:
        return list(self.power)

    def is_on(self, system: str) -> bool:
        return self.power[system] and not self.says_off

    def reset(self, system: str, kind: str) -> None:
        on = kind == "On"
        if self.deaf:
            self.deaf -= 1
        elif not (self.stays_off if on else self.stays_on):
            self.power[system] = on
            self.effect(system, on)


class FakeRedfish:
    """One BMC."""

    def __init__(self, folder: Path, *, systems: int = 1, tls: bool = True) -> None:
        folder.mkdir()
        self.folder = folder
        self.password = secrets.token_hex(8)
        self.systems = Systems(systems)
        self.requests: list[tuple[float, str]] = []
        self.delay = 0.0
        self._off = threading.Event()
        self.status: list[int] = []
        """HTTP statuses of the next answers."""
        self.body = b""
        """Answer of the next GET of a system, instead of the emulator's."""
        self.silent_until = 0.0
        self.least_pause = 0.0
        """Seconds between two requests; what comes earlier is refused with 429."""
        self._last = 0.0
        self.allow("admin", self.password)
        self.fingerprint = certificate.make(folder, "DNS:some-other-name") if tls else ""
        self._tls = tls
        if not EMULATOR:
            EMULATOR.append(make_emulator(lambda: flask.request.environ["bmc"].systems))
        self._inner = with_users(EMULATOR[0], folder / "users")
        self._context: ssl.SSLContext
        self.port = 0

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        self.requests.append(
            (time.monotonic(), f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}")
        )
        environ["bmc"] = self
        return self.answer(environ, start_response)

    def answer(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        """Do what was asked, or what the fault says."""
        early = time.monotonic() - self._last < self.least_pause
        self._last = time.monotonic()
        if (wait := self.silent_until - time.monotonic()) > 0:
            time.sleep(wait)
            return []  # and the connection is lost
        self._off.wait(self.delay)
        if early:
            start_response("429 Too Many Requests", [("Content-Type", "text/plain")])
            return [b"not so fast"]
        if self.status:
            start_response(f"{self.status.pop(0)} Fault", [("Content-Type", "text/plain")])
            return [b"a fault"]
        if self.body and environ["REQUEST_METHOD"] == "GET":
            start_response("200 OK", [("Content-Type", "application/json")])
            return [self.body]
        return self._inner(environ, start_response)

    def allow(self, user: str, password: str) -> None:
        """Let in this one user."""
        write_users(self.folder / "users", user, password)

    def asked(self, what: str) -> int:
        """How many requests began so."""
        return sum(request.startswith(what) for _, request in self.requests)

    def url(self, **options: str) -> PowerUrl:
        """Return its power URL, with the fingerprint of its certificate unless other options."""
        options = options or ({"fingerprint": self.fingerprint} if self._tls else {})
        return PowerUrl(
            "redfish" if self._tls else "redfish+http", "127.0.0.1", "admin", self.port, options
        )

    def driver(self, password: str = "", **options: str) -> Redfish:
        """Return a driver of it."""
        return connect(self.url(**options), SecretStr(password or self.password))

    def show_certificate(self) -> None:
        """Show what lies in its folder to who connects from now on."""
        self._context.load_cert_chain(self.folder / "cert", self.folder / "key")

    @contextlib.contextmanager
    def serving(self) -> Iterator[FakeRedfish]:
        """Switch the BMC itself on, for as long as the context lasts."""
        self._off.clear()
        tls = None
        if self._tls:
            tls = self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.show_certificate()
        app: Any = self
        server = make_server("127.0.0.1", self.port, app, threaded=True, ssl_context=tls)
        server.daemon_threads = True  # type: ignore[attr-defined]
        server.log = lambda *_: None  # type: ignore[method-assign]
        self.port = server.server_port
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._off.set()
            server.shutdown()
            thread.join()
            server.server_close()
