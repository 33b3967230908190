"""zfsiscsi power, with a service that answers, one that refuses, and none: then a real BMC."""

from __future__ import annotations

import http.server
import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cuckoo_zfsiscsi.cli import run
from tests.power.bmc import Bmc

CONF = """\
[zfsiscsi]
machines = pc1
interface = br-lab
service = {service}
token_file = {folder}/token

[storage]
path = {folder}/store
portal = 10.99.0.1
iqn = iqn.2026-01.org.example

[netboot]
interface = br-lab
address = 10.99.0.1/24

[pc1]
label = pc1
platform = windows
arch = x64
ip = 10.99.0.11
tags = win10,x64
snapshot = win10
mac = 00:11:22:33:44:55
firmware = bios
power = {power}
power_password_file = {folder}/password
power_timeout = {timeout}
power_interval = 0.1
power_signs = off
"""
NOBODY = "http://127.0.0.1:9"
"""Discard: nothing listens there."""


@pytest.fixture
def bmc(tmp_path: Path) -> Iterator[Bmc]:
    one = Bmc(tmp_path / "bmc")
    one.start()
    yield one
    one.stop()


def conf(folder: Path, bmc: Bmc, service: str = NOBODY, timeout: float = 60) -> str:
    path = folder / "zfsiscsi.conf"
    path.write_text(CONF.format(folder=folder, power=bmc.url(), service=service, timeout=timeout))
    for name, text in (("token", "t0ken"), ("password", bmc.password)):
        (folder / name).write_text(text + "\n")
        (folder / name).chmod(0o600)
    return str(path)


class Service(http.server.BaseHTTPRequestHandler):
    """Answers one thing, as the service's control API words it."""

    status = 200
    answer: dict[str, Any] = {"host": "pc1", "power": "on"}  # noqa: RUF012
    seen: list[Any] = []  # noqa: RUF012

    after_maintenance: dict[str, Any] = {}  # noqa: RUF012

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.seen.append((self.path, self.headers["Authorization"], body))
        if self.path.endswith("/maintenance"):
            type(self).answer = self.after_maintenance
        self.do_GET()

    def do_GET(self) -> None:
        text = json.dumps(self.answer).encode()
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_args: Any) -> None:
        pass


@pytest.fixture
def service() -> Iterator[tuple[str, type[Service]]]:
    class One(Service):
        seen: list[Any] = []  # noqa: RUF012

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), One) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}", One
        server.shutdown()
        thread.join()


def test_without_a_service(bmc: Bmc, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = conf(tmp_path, bmc)
    assert run(["--conf", path, "power", "pc1", "on"]) == 0
    printed = capsys.readouterr()
    assert printed.out == "pc1: power is on\n"
    assert "no answer of the service" in printed.err
    assert "asking the BMC directly" in printed.err
    assert bmc.power == "1"
    assert run(["--conf", path, "power", "pc1", "status", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"host": "pc1", "power": "on", "via": "bmc"}
    assert run(["--conf", path, "power", "pc1", "off"]) == 0
    assert bmc.power == "0"


def test_through_the_service(
    bmc: Bmc,
    tmp_path: Path,
    service: tuple[str, type[Service]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    url, handler = service
    path = conf(tmp_path, bmc, url)
    assert run(["--conf", path, "power", "pc1", "on", "--json"]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out) == {"host": "pc1", "power": "on", "via": "service"}
    assert printed.err == ""
    assert handler.seen == [("/v1/hosts/pc1/power", "Bearer t0ken", {"action": "on"})]
    assert bmc.commands() == []


@pytest.mark.parametrize("status", [401, 404, 409, 500])
def test_no_of_the_service_is_a_no(
    bmc: Bmc,
    tmp_path: Path,
    service: tuple[str, type[Service]],
    status: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    url, handler = service
    handler.status = status
    handler.answer = {"title": "busy", "detail": "pc1 is running", "fix": "zfsiscsi stop pc1"}
    assert run(["--conf", conf(tmp_path, bmc, url), "power", "pc1", "off"]) == 1
    assert capsys.readouterr().err == "error: pc1 is running\nfix: zfsiscsi stop pc1\n"
    assert bmc.commands() == []


def test_answer_of_something_else_is_an_error(
    bmc: Bmc,
    tmp_path: Path,
    service: tuple[str, type[Service]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    url, handler = service
    for answer in ({"host": "pc1"}, {"power": "maybe"}, {"power": None}):
        handler.answer = answer
        assert run(["--conf", conf(tmp_path, bmc, url), "power", "pc1", "status"]) == 1
        assert "error: " in capsys.readouterr().err
    assert bmc.commands() == []


def test_wrong_password(bmc: Bmc, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = conf(tmp_path, bmc)
    (tmp_path / "password").write_text("not-the-one\n")
    assert run(["--conf", path, "power", "pc1", "off"]) == 1
    printed = capsys.readouterr().err
    assert "the BMC refuses the user or the password" in printed
    assert "fix: check user and password" in printed
    assert "not-the-one" not in printed


def test_unreachable(bmc: Bmc, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bmc.stop()
    assert run(["--conf", conf(tmp_path, bmc, timeout=3), "power", "pc1", "status"]) == 1
    assert re.search(r"the BMC does not answer|: no answer", capsys.readouterr().err)


def test_says_off_and_stays_on(
    bmc: Bmc, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bmc.power = "1"
    bmc.fault("stays_on")
    assert run(["--conf", conf(tmp_path, bmc, timeout=8), "power", "pc1", "off"]) == 1
    assert "says it switched off but is still on" in capsys.readouterr().err


def test_cycle(bmc: Bmc, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = conf(tmp_path, bmc)
    assert run(["--conf", path, "power", "pc1", "cycle"]) == 0
    assert capsys.readouterr().out == "pc1: power is on\n"
    switched = [what for _, what in bmc.commands() if what.startswith("set")]
    assert switched == ["set power 0", "set power 1"]
    assert run(["--conf", path, "power", "pc1", "cycle", "--json"]) == 0
    steps = json.loads(capsys.readouterr().out)["steps"]
    assert [(step["step"], step["power"]) for step in steps] == [("off", "off"), ("on", "on")]


def test_test(bmc: Bmc, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--conf", conf(tmp_path, bmc), "power", "pc1", "test"]) == 0
    *steps, last = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in steps] == ["off", "on", "off"]
    assert all(f"ipmi://127.0.0.1:{bmc.port}: the device says" in line for line in steps)
    assert last == "pc1: power is off"


def test_test_of_a_device_that_lies(
    bmc: Bmc, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bmc.power = "1"
    bmc.fault("stays_on")
    assert run(["--conf", conf(tmp_path, bmc, timeout=8), "power", "pc1", "test"]) == 1
    assert "says it switched off but is still on" in capsys.readouterr().err


def test_test_takes_the_host_out_of_service(
    bmc: Bmc,
    tmp_path: Path,
    service: tuple[str, type[Service]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    url, handler = service
    proof = {"peer": "ipmi://bmc", "proof": "the device says so", "seconds": 1.25}
    handler.answer = {"host": "pc1", "power": "off", "state": "clean", "reason": "", **proof}
    handler.after_maintenance = {**handler.answer, "state": "maintenance"}
    assert run(["--conf", conf(tmp_path, bmc, url), "power", "pc1", "test"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("1.2 s  ipmi://bmc: the device says so\n") == 3
    asked = [(path.rpartition("/")[2], body) for path, _, body in handler.seen]
    assert asked == [
        ("maintenance", {"on": True}),
        ("power", {"action": "off"}),
        ("power", {"action": "on"}),
        ("power", {"action": "off"}),
        ("maintenance", {"on": False}),
    ]
    assert bmc.commands() == []


def test_unknown_host_and_action(
    bmc: Bmc, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = conf(tmp_path, bmc)
    assert run(["--conf", path, "power", "pc9", "off"]) == 1
    assert "pc9" in capsys.readouterr().err
    assert run(["--conf", path, "power", "pc1", "reset"]) == 2
    assert bmc.commands() == []
