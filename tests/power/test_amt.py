"""Amttool against a management engine that speaks the little SOAP it needs."""

from __future__ import annotations

import http.server
import re
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
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
from cuckoo_zfsiscsi.power.amt import Amt, connect
from tests.processes import watched
from tests.waiting import HANG, wait

PASSWORD = "P4ss-w.rd"
ENVELOPE = (
    '<?xml version="1.0"?><e:Envelope xmlns:e="http://schemas.xmlsoap.org/soap/envelope/">'
    '<e:Body><r:Response xmlns:r="urn:x">{}</r:Response></e:Body></e:Envelope>'
)
S0, S5 = 0, 5


class Engine:
    """One host's AMT."""

    def __init__(self) -> None:
        self.state = S5
        self.asked: list[str] = []
        self.result = 0
        self.before: Callable[[], object] = lambda: None
        """What it does before it answers."""
        self.off = threading.Event()
        self.password = PASSWORD
        self.port = 0

    def call(self, name: str, body: str) -> str:
        self.before()
        self.asked.append(name)
        values = {
            "GetCoreVersion": "<Version>5.2.0</Version>",
            "GetHostName": "<HostName>pc1</HostName>",
            "GetDomainName": "<DomainName>lab</DomainName>",
            "GetSystemPowerState": f"<PowerState>{self.state}</PowerState>",
            "GetRemoteControlCapabilities": "".join(f"<c{i}>0</c{i}>" for i in range(5)),
        }
        if name == "RemoteControl":
            command = re.findall(r"<Command[^>]*>(\d+)<", body)[0]
            self.asked[-1] += f" {command}{' pxe' if 'SpecialCommand' in body else ''}"
            if not self.result:
                self.state = {"17": S0, "18": S5}[command]
            values[name] = ""
        return f"<Status>{self.result}</Status>" + values[name]

    def serve(self) -> http.server.ThreadingHTTPServer:
        engine = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                given = self.headers.get("Authorization", "")
                if not self._knows(given):
                    self._send(401, "", [("WWW-Authenticate", 'Basic realm="Intel AMT"')])
                    return
                name = re.findall(r"#(\w+)", self.headers["SOAPAction"])[0]
                self._send(200, ENVELOPE.format(engine.call(name, body)), [])

            def _knows(self, given: str) -> bool:
                import base64

                expected = base64.b64encode(f"admin:{engine.password}".encode()).decode()
                return given == f"Basic {expected}"

            def _send(self, status: int, text: str, headers: list[tuple[str, str]]) -> None:
                self.send_response(status)
                for name, value in [*headers, ("Content-Type", "text/xml; charset=utf-8")]:
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *_args: Any) -> None:
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_args: Any) -> None:
                """Say nothing: a client that was killed is no news."""

        server = Server(("127.0.0.1", 0), Handler)
        self.port = server.server_address[1]
        return server

    def driver(self, password: str = PASSWORD, **options: str) -> Amt:
        return connect(
            PowerUrl("amt", "127.0.0.1", "admin", self.port, options), SecretStr(password)
        )


@pytest.fixture
def engine() -> Iterator[Engine]:
    one = Engine()
    with one.serve() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield one
        one.off.set()
        server.shutdown()
        thread.join()


def test_switches_and_tells(engine: Engine) -> None:
    driver: Driver = engine.driver()
    assert driver.query(deadline=Deadline(HANG)) is PowerState.OFF
    driver.request(PowerState.ON, deadline=Deadline(HANG))
    assert engine.state == S0
    assert driver.query(deadline=Deadline(HANG)) is PowerState.ON
    driver.request(PowerState.OFF, deadline=Deadline(HANG))
    assert engine.state == S5
    assert [a for a in engine.asked if a.startswith("RemoteControl")] == [
        "RemoteControl 17",
        "RemoteControl 18",
    ]


def test_boot_from_the_network(engine: Engine) -> None:
    engine.driver(boot="network").request(PowerState.ON, deadline=Deadline(HANG))
    assert engine.asked[-1] == "RemoteControl 17 pxe"


@pytest.mark.parametrize(("state", "tells"), [(3, "on"), (6, "off"), (7, "off")])
def test_states(engine: Engine, state: int, tells: str) -> None:
    engine.state = state
    assert engine.driver().query(deadline=Deadline(HANG)).value == tells


def test_hibernation_is_neither(engine: Engine) -> None:
    engine.state = 4
    with pytest.raises(PowerError, match="it says 'S4'"):
        engine.driver().query(deadline=Deadline(HANG))


def test_refused_command(engine: Engine) -> None:
    engine.result = 0x10
    with pytest.raises(PowerError, match="not permitted") as refused:
        engine.driver().request(PowerState.ON, deadline=Deadline(HANG))
    assert not isinstance(refused.value, TransientPowerError)


def test_wrong_password_is_seen_nowhere(engine: Engine) -> None:
    with watched() as seen:
        engine.before = lambda: wait(
            lambda: any(b"amttool" in line for line in set(seen)), what="amttool is never seen"
        )
        engine.driver().query(deadline=Deadline(HANG))
        with pytest.raises(PowerError, match="password is refused") as refused:
            engine.driver("wr0ng-one").query(deadline=Deadline(HANG))
    assert not isinstance(refused.value, TransientPowerError)
    for secret in (PASSWORD, "wr0ng-one"):
        assert not [line for line in seen if secret.encode() in line]
        assert secret not in str(refused.value)


def test_nobody_there_and_a_slow_one(engine: Engine) -> None:
    with socket.socket() as taken:  # nobody listens, and nobody else can
        taken.bind(("127.0.0.1", 0))
        url = PowerUrl("amt", "127.0.0.1", "admin", taken.getsockname()[1])
        with pytest.raises(TransientPowerError, match="AMT does not answer"):
            connect(url, SecretStr("x")).query(deadline=Deadline(HANG))
    engine.before = lambda: engine.off.wait(HANG)
    with pytest.raises(DeadlineExceededError):
        engine.driver().query(deadline=Deadline(1))


@pytest.mark.parametrize("url", ["amt://h", "amt://root@h", "amt://admin@h?x=1"])
def test_configuration(url: str) -> None:
    with pytest.raises(ConfigError):
        connect(PowerUrl.parse(url), SecretStr("x"))
