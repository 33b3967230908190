"""The lab's rooter beside CAPE's own, in namespaces, with the real iptables."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.errors import LabError
from cuckoo_zfsiscsi.lab.network import Namespace
from cuckoo_zfsiscsi.lab.routes.outside import ROUTING
from cuckoo_zfsiscsi.lab.routes.rooter import Iptables, RealRooter, Rooter, commands
from cuckoo_zfsiscsi.lab.routes.route import Route
from tests.readiness.peers import capes_agent

HOST = "10.99.0.11"
ROUTES: tuple[Route, ...] = ("none", "internet", "inetsim", "drop")
FAKE = """\
import json, os, socket, sys
server = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
server.bind(sys.argv[1])
assert sys.argv[2:4] == ["--group", "root"]
while True:
    request, peer = server.recvfrom(4096)
    said = json.loads(request)
    print("told", said["command"], *said["args"], flush=True)
    bad = "no such chain" if said["command"] == "forward_enable" else None
    server.sendto(json.dumps({"output": None, "exception": bad}).encode(), peer)
"""


@pytest.fixture
def server(network_name: Callable[[], str]) -> Iterator[Namespace]:
    with Namespace(network_name()) as made:
        yield made


def rules(server: Namespace) -> list[str]:
    """Return all of iptables' rules and the rules of routing."""
    saved = server.run(["iptables-save"]) + server.run(["ip", "rule"])
    return [re.sub(r" on .*|\[\d+:\d+\]", "", line) for line in saved.splitlines()]


def play(rooter: Rooter, server: Namespace, route: Route) -> list[list[str]]:
    """Play CAPE's start and one run of it; return the rules after each part."""
    seen = []
    for calls in (ROUTING.at_start(), ROUTING.enable(route, HOST), ROUTING.disable(route, HOST)):
        for call in calls:
            rooter.call(*call)
        seen.append(rules(server))
    return seen


@pytest.mark.parametrize("route", ROUTES)
def test_a_run_leaves_no_rule(route: Route, server: Namespace) -> None:
    rooter = Iptables(server)
    rooter.start()
    before, within, after = play(rooter, server, route)
    assert before == after
    assert any(HOST in line for line in within)
    assert ":FORWARD DROP " in before
    assert not any(HOST in line for line in before)
    rooter.stop()


@pytest.mark.cape
@pytest.mark.parametrize("route", ROUTES)
def test_the_same_rules_as_capes_own(
    route: Route, network_name: Callable[[], str], server: Namespace, tmp_path: Path
) -> None:
    ours = Iptables(server)
    with Namespace(network_name()) as other:
        real = RealRooter(capes_agent().parents[1], Path(sys.executable), tmp_path, other)
        real.start()
        try:
            assert play(ours, server, route) == play(real, other, route)
        finally:
            real.stop()


def test_how_capes_own_is_asked(server: Namespace, tmp_path: Path) -> None:
    (tmp_path / "utils").mkdir()
    (tmp_path / "utils/rooter.py").write_text(FAKE)
    rooter = RealRooter(tmp_path, Path(sys.executable), tmp_path, server)
    rooter.start()
    try:
        rooter.call("drop_enable", HOST, "2042")
        with pytest.raises(LabError, match=r"told forward_enable: no such chain; its log: .*told"):
            rooter.call("forward_enable", "a", "b", HOST)
    finally:
        rooter.stop()
    log = (tmp_path / "rooter.log").read_text()
    assert log == f"told drop_enable {HOST} 2042\ntold forward_enable a b {HOST}\n"
    with pytest.raises(LabError, match="told drop_enable: ConnectionRefusedError"):
        rooter.call("drop_enable", HOST, "2042")


def test_what_is_no_cape(server: Namespace, tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"there is no .*/utils/rooter.py .*CAPE_ROOT"):
        RealRooter(tmp_path, Path(sys.executable), tmp_path, server).start()


@pytest.mark.parametrize("command", ["reboot", "tor_enable", "drop_now", "_enable"])
def test_what_cape_never_says(command: str) -> None:
    with pytest.raises(LabError, match=f"the lab's rooter knows no {command}"):
        commands(command)
