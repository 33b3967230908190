from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs

import pytest

from cuckoo_zfsiscsi.config import PowerUrl
from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.errors import PowerError
from cuckoo_zfsiscsi.power import Driver, PowerState
from cuckoo_zfsiscsi.power.agent import connect
from tests.power.bmc import free_port
from tests.waiting import HANG

ON, OFF = PowerState.ON, PowerState.OFF


class Agent(http.server.BaseHTTPRequestHandler):
    """CAPE's, as far as it is asked here."""

    status = 200
    seen: list[tuple[str, dict[str, list[str]]]] = []  # noqa: RUF012

    def do_POST(self) -> None:
        form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        self.seen.append((self.path, form))
        self.send_response(self.status)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_args: Any) -> None:
        pass


@pytest.fixture
def agent() -> Iterator[type[Agent]]:
    class One(Agent):
        seen: list[Any] = []  # noqa: RUF012
        port = 0

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), One) as server:
        One.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield One
        server.shutdown()
        thread.join()


def driver(port: int, **options: str) -> Driver:
    return connect(PowerUrl("agent", "", None, port, {"ip": "127.0.0.1", **options}), None)


@pytest.mark.parametrize(
    ("platform", "command"), [("windows", "shutdown /s /f /t 0"), ("linux", "poweroff")]
)
def test_asks_the_guest(agent: Any, platform: str, command: str) -> None:
    one = driver(agent.port, platform=platform, wait="3")
    one.request(OFF, deadline=Deadline(HANG))
    form = {"command": [command], "async": ["1"], "shell": ["1"]}
    assert agent.seen == [("/execute", form)]
    assert one.can.courtesy == 3.0
    assert (one.can.switch, one.can.tell) == (frozenset({OFF}), frozenset())


def test_failures_are_told(agent: Any) -> None:
    agent.status = 500
    with pytest.raises(PowerError, match="HTTP 500"):
        driver(agent.port).request(OFF, deadline=Deadline(HANG))
    with pytest.raises(PowerError, match="no connection"):
        driver(free_port()).request(OFF, deadline=Deadline(HANG))


def test_only_off_and_no_state(agent: Any) -> None:
    with pytest.raises(PowerError):
        driver(agent.port).request(ON, deadline=Deadline(HANG))
    with pytest.raises(PowerError):
        driver(agent.port).query(deadline=Deadline(HANG))
    assert agent.seen == []
