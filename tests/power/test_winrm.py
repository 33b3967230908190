"""Pywinrm against a WinRM service: real NTLM and message encryption (pyspnego), little else."""

from __future__ import annotations

import base64
import http.server
import re
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import spnego
from pydantic import SecretStr

from cuckoo_zfsiscsi.config import PowerUrl
from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.errors import (
    ConfigError,
    DeadlineExceededError,
    PowerError,
    TransientPowerError,
)
from cuckoo_zfsiscsi.power import Driver, PowerState
from cuckoo_zfsiscsi.power.winrm import connect
from tests.power.bmc import free_port
from tests.waiting import HANG

PASSWORD = "P4ss-w.rd"
BOUNDARY = b"--Encrypted Boundary"
SHELL = (
    '<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope" '
    'xmlns:w="http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd" '
    'xmlns:rsp="http://schemas.microsoft.com/wbem/wsman/1/windows/shell"><s:Body>'
    '<w:Selector Name="ShellId">S-1</w:Selector>'
    "<rsp:CommandResponse><rsp:CommandId>C-1</rsp:CommandId></rsp:CommandResponse>"
    "</s:Body></s:Envelope>"
)


class Guest(http.server.BaseHTTPRequestHandler):
    """One Windows."""

    protocol_version = "HTTP/1.1"
    commands: list[str] = []  # noqa: RUF012
    delay = 0.0
    off = threading.Event()

    def setup(self) -> None:
        super().setup()
        self.context: Any = None

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        scheme, _, token = self.headers.get("Authorization", "").partition(" ")
        if token and not self._step(scheme, base64.b64decode(token)):
            return
        if not self.context:
            self._send(401, b"", ("WWW-Authenticate", "Negotiate"))
            return
        if not body:
            self._send(200, b"")
            return
        self.off.wait(self.delay)
        text = self._unwrap(body).decode()
        self.commands.extend(re.findall(r"<rsp:Command>(.*?)</rsp:Command>", text))
        kind = 'multipart/encrypted;protocol="application/HTTP-SPNEGO-session-encrypted";'
        self._send(
            200,
            self._wrap(SHELL.encode()),
            ("Content-Type", f'{kind}boundary="Encrypted Boundary"'),
        )

    def _step(self, scheme: str, token: bytes) -> bool:
        """Take one step of the authentication; True when it is done."""
        if self.context is None or token[8:9] == b"\x01":
            self.context = spnego.server(protocol="ntlm" if token[:4] == b"NTLM" else "negotiate")
        try:
            answer = self.context.step(token)
        except spnego.exceptions.SpnegoError:
            self.context = None
            self._send(401, b"", ("WWW-Authenticate", "Negotiate"))
            return False
        if self.context.complete:
            return True
        self._send(401, b"", ("WWW-Authenticate", f"{scheme} {base64.b64encode(answer).decode()}"))
        return False

    def _unwrap(self, body: bytes) -> bytes:
        part = body.split(BOUNDARY)[2].split(b"application/octet-stream\r\n", 1)[1]
        size = struct.unpack("<I", part[:4])[0]
        plain: Any = self.context.unwrap_winrm(part[4 : 4 + size], part[4 + size :])
        return bytes(plain)

    def _wrap(self, plain: bytes) -> bytes:
        header, data, _padding = self.context.wrap_winrm(plain)
        about = b"\r\n\tContent-Type: application/HTTP-SPNEGO-session-encrypted\r\n"
        about += b"\tOriginalContent: type=application/soap+xml;charset=UTF-8;Length="
        about += str(len(plain)).encode() + b"\r\n"
        octets = b"\r\n\tContent-Type: application/octet-stream\r\n"
        sealed: bytes = struct.pack("<I", len(header)) + header + data
        return BOUNDARY + about + BOUNDARY + octets + sealed + BOUNDARY + b"--\r\n"

    def _send(self, status: int, body: bytes, *headers: tuple[str, str]) -> None:
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_args: Any) -> None:
        pass


@pytest.fixture
def guest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    users = tmp_path / "users"
    users.write_text(f":analyst:{PASSWORD}\n")
    monkeypatch.setenv("NTLM_USER_FILE", str(users))

    class One(Guest):
        commands: list[str] = []  # noqa: RUF012
        off = threading.Event()
        port = 0

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_args: Any) -> None:
            """Say nothing: a client that gave up is no news."""

    with Server(("127.0.0.1", 0), One) as server:
        One.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield One
        One.off.set()
        server.shutdown()
        thread.join()


def driver(port: int, password: str = PASSWORD) -> Driver:
    url = PowerUrl("winrm", "", "analyst", port, {"ip": "127.0.0.1", "wait": "4"})
    return connect(url, SecretStr(password))


def test_asks_the_guest(guest: Any) -> None:
    one = driver(guest.port)
    one.request(PowerState.OFF, deadline=Deadline(HANG))
    assert guest.commands == ["shutdown /s /f /t 0"]
    assert one.can.courtesy == 4.0
    assert (one.can.switch, one.can.tell) == (
        frozenset({PowerState.OFF}),
        frozenset(),
    )


def test_refused(guest: Any) -> None:
    with pytest.raises(PowerError, match="refuses user or password") as refused:
        driver(guest.port, "wr0ng-one").request(PowerState.OFF, deadline=Deadline(HANG))
    assert "wr0ng-one" not in str(refused.value)
    assert guest.commands == []


def test_nobody_there_and_a_slow_one(guest: Any) -> None:
    with pytest.raises(TransientPowerError, match="ConnectionError"):
        driver(free_port()).request(PowerState.OFF, deadline=Deadline(HANG))
    guest.delay = HANG
    with pytest.raises((DeadlineExceededError, TransientPowerError)):
        driver(guest.port).request(PowerState.OFF, deadline=Deadline(2))


def test_only_off_and_no_state(guest: Any) -> None:
    with pytest.raises(PowerError):
        driver(guest.port).request(PowerState.ON, deadline=Deadline(HANG))
    with pytest.raises(PowerError):
        driver(guest.port).query(deadline=Deadline(HANG))
    with pytest.raises(ConfigError):
        connect(PowerUrl.parse("winrm://h"), SecretStr("x"))
