"""The search, on addresses of the loopback network, for simulators on ports of their own."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cuckoo_zfsiscsi.cli import run
from cuckoo_zfsiscsi.config import PowerUrl
from cuckoo_zfsiscsi.deadline import Cancel, Deadline
from cuckoo_zfsiscsi.errors import CancelledError, ConfigError
from cuckoo_zfsiscsi.power import discover as module
from cuckoo_zfsiscsi.power.discover import Ports, discover
from tests.power.bmc import Bmc, free_port
from tests.power.redfish import FakeRedfish
from tests.waiting import HANG


class Amt(http.server.BaseHTTPRequestHandler):
    name = "Intel(R) Active Management Technology 5.2.0"

    def do_GET(self) -> None:
        self.send_response(303)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def version_string(self) -> str:
        return self.name

    def log_message(self, *_args: Any) -> None:
        pass


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let whoever is there answer as late as a busy machine makes it."""
    monkeypatch.setattr(module, "PATIENCE", HANG)


@pytest.fixture
def amt() -> Iterator[int]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Amt) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def test_finds_each_kind(bmc: Bmc, amt: int, tmp_path: Path) -> None:
    with FakeRedfish(tmp_path / "redfish").serving() as redfish:
        ports = Ports(bmc.port, redfish.port, amt)
        found = list(discover("127.0.0.1", deadline=Deadline(HANG), ports=ports))
    assert [one.driver for one in found] == ["ipmi", "redfish", "amt"]
    assert {one.address for one in found} == {"127.0.0.1"}
    assert found[0].what == "IPMI 2.0"
    assert found[1].what.startswith("Redfish 1.")
    assert found[2].what == Amt.name
    for one in found:
        assert PowerUrl.parse(one.url).driver == one.driver
    assert PowerUrl.parse(found[1].url).options["fingerprint"] == redfish.fingerprint
    assert all("GET /redfish/v1" in request for _, request in redfish.requests)
    assert bmc.commands() == []


def test_strangers_are_not_devices(amt: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Amt, "name", "nginx")
    monkeypatch.setattr(module, "PATIENCE", 0.5)
    ports = Ports(free_port(), amt, amt)
    assert list(discover("127.0.0.0/30", deadline=Deadline(HANG), ports=ports)) == []


def test_nothing_waits_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    cancel = Cancel()
    cancel.set("interrupted")
    with pytest.raises(CancelledError):
        list(discover("127.0.0.0/24", deadline=Deadline(HANG, cancel)))
    monkeypatch.setattr(module, "PATIENCE", 0.2)
    ports = Ports(free_port(), free_port(), free_port())
    assert list(discover("127.0.0.0/26", deadline=Deadline(HANG), ports=ports)) == []


@pytest.mark.parametrize("network", ["10.98.0.0/8", "here", "10.98.0.0/33"])
def test_no_range(network: str) -> None:
    with pytest.raises(ConfigError) as wrong:
        list(discover(network, deadline=Deadline(HANG)))
    assert wrong.value.fix


def test_command(
    bmc: Bmc, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ports = Ports(bmc.port, free_port(), free_port())
    monkeypatch.setattr(module, "Ports", lambda: ports)
    assert run(["discover", "127.0.0.1"]) == 0
    printed = capsys.readouterr().out
    assert "127.0.0.1       IPMI 2.0\n" in printed
    assert "power = ipmi://USER@127.0.0.1\n" in printed
    assert run(["discover", "127.0.0.1", "--json"]) == 0
    (one,) = json.loads(capsys.readouterr().out)
    assert one["driver"] == "ipmi"
    bmc.stop()
    assert run(["discover", "127.0.0.1"]) == 0
    assert capsys.readouterr().out == "nothing answers on 127.0.0.1\n"
    assert run(["discover", "everything"]) == 1
    assert "fix: zfsiscsi discover" in capsys.readouterr().err
