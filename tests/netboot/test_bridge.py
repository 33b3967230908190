"""What the firewall lets pass where the hosts' network is a Linux bridge: real packets.

With br_netfilter, which Docker loads, the rules see what goes from port to port, too; and whoever
captures on the bridge, as CAPE does, makes it promiscuous.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.netboot.firewall import Server, apply, look
from tests.config.sample import read
from tests.netboot import routed as r
from tests.netboot.network import ALL, inside
from tests.netboot.rooter import Rooter, opened
from tests.netboot.routed import Routed
from tests.netboot.test_isolation import INETSIM, LONG, NONE, boots, dropped, forbidden
from tests.waiting import HANG

FILTERED = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
"""Of this network namespace."""
CONF = (
    r.CONF.replace("machines = pc1,pc2", "machines = pc1,pc2,pc3")
    + f"""
[pc3]
label = pc3
platform = linux
arch = x64
ip = {r.SIBLING}
snapshot = lab
mac = 52:54:00:99:00:03
power = ipmi://admin@10.98.0.13
"""
)
ELSEWHERE = (
    CONF.replace(
        f"interface = {r.LAB}\naddress = {r.SERVER}/24",
        f"interface = boot7\naddress = {r.MACHINE}/24\ngateway = {r.SERVER}",
    )
    .replace(f"portal = {r.SERVER}", f"portal = {r.MACHINE}")
    .replace("http://127.0.0.1:8470", f"http://{r.MACHINE}:8470")
)
"""Storage is on another machine, plugged into the bridge of CAPE's server."""


@pytest.fixture(scope="module", params=["no br_netfilter", "br_netfilter"][: 1 + FILTERED.exists()])
def net(request: pytest.FixtureRequest) -> Iterator[Routed]:
    """With br_netfilter where this kernel has it: to load it would change all its bridges."""
    with r.make_routed(bridged=True) as made:
        if FILTERED.exists():
            with inside(made.server):
                FILTERED.write_text("1" if request.param == "br_netfilter" else "0")
        for port in (2042, 3260, 8471):
            made.listen("m", port)
        # An offer of another way, which is the switch's to judge
        for key in ("all", "eth0"):
            with inside(made.namespace("1")):
                Path(f"/proc/sys/net/ipv4/conf/{key}/accept_redirects").write_text("0")
        yield made


@pytest.fixture(params=["nobody captures", "captured"], autouse=True)
def capture(request: pytest.FixtureRequest, net: Routed) -> None:
    net.run("s", f"ip link set {r.LAB} promisc {'on' if request.param == 'captured' else 'off'}")


@pytest.fixture
def rooter(net: Routed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rooter]:
    """CAPE's, on a server without rules."""
    net.run("s", "nft flush ruleset")
    with contextlib.closing(Rooter(net.server, tmp_path_factory.mktemp("rooter"))) as made:
        yield made
    net.run("s", "nft flush ruleset")


def fence(net: Routed, folder: Path, text: str = CONF) -> None:
    with inside(net.server):
        server = Server(look().addresses, IPv4Address(r.RESOLVER))
        apply(read(folder, text), server, Deadline(HANG))


DISCOVER = bytes(240) + b"\x35\1\1"
"""As much of a DHCPDISCOVER (RFC 2131) as the rules look at."""


def hears(
    net: Routed, end: str, sender: str, ports: tuple[int, int], seconds: float = LONG
) -> bool:
    """Tell whether an end hears what another says to all again and again, from port to port."""
    with inside(net.namespace(end)):
        there = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with inside(net.namespace(sender)):
        here = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with there, here:
        there.bind(("", ports[1]))
        there.settimeout(r.BRIEF)
        here.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        here.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0")
        here.bind(("", ports[0]))
        over = time.monotonic() + seconds
        while time.monotonic() < over:
            here.sendto(DISCOVER, (ALL, ports[1]))
            with contextlib.suppress(TimeoutError):
                return there.recv(len(DISCOVER)) == DISCOVER
    return False


def test_a_host_boots_in_its_run(net: Routed, rooter: Rooter, tmp_path: Path) -> None:
    rooter.start_cape(r.WAN)
    fence(net, tmp_path)
    with opened(rooter, *NONE):
        assert hears(net, "s", "1", (68, 67))
        assert boots(net)
        assert net.connect(r.PC1, 8000, end="s", seconds=LONG), "the agent"
        assert not net.connect(r.PUBLIC)
        assert forbidden(net) == []


def test_of_what_is_for_all_only_the_question_for_a_lease(
    net: Routed, rooter: Rooter, tmp_path: Path
) -> None:
    assert hears(net, "s", "1", (4444, 4444))
    fence(net, tmp_path)
    assert not hears(net, "s", "1", (4444, 4444), seconds=r.BRIEF)
    assert hears(net, "s", "1", (68, 67))


def test_other_machines_of_the_network_are_reached(
    net: Routed, rooter: Rooter, tmp_path: Path
) -> None:
    """Such as the site's DHCP server, whatever iptables drops."""
    rooter.start_cape(r.WAN)
    fence(net, tmp_path)
    assert hears(net, "m", "1", (68, 67))
    assert hears(net, "1", "m", (67, 68))
    assert net.connect(r.MACHINE, seconds=LONG) == f"m {r.MACHINE}:80"
    assert net.connect(r.PC1, 8000, end="m", seconds=LONG) == f"1 {r.PC1}:8000"


@pytest.mark.parametrize("route", [NONE, INETSIM], ids=["none", "inetsim"])
def test_storage_on_another_machine_of_the_network(
    net: Routed, rooter: Rooter, tmp_path: Path, route: tuple[str, ...]
) -> None:
    rooter.start_cape(r.WAN)
    fence(net, tmp_path, ELSEWHERE)
    with opened(rooter, *route):
        for port in (3260, 8471):
            assert net.connect(r.MACHINE, port, seconds=LONG) == f"m {r.MACHINE}:{port}"
        assert hears(net, "m", "1", (68, 67))
        assert hears(net, "1", "m", (67, 68))


def test_no_sibling_past_the_bridge(net: Routed, rooter: Rooter, tmp_path: Path) -> None:
    """The rules keep siblings apart only with br_netfilter; else docs/switch.rst has it."""
    with inside(net.server):
        sees = FILTERED.read_text().strip() == "1"
    net.run("s", "iptables -P FORWARD ACCEPT")
    assert net.connect(r.SIBLING, 8000, seconds=LONG)
    fence(net, tmp_path)
    if sees:
        sent = dropped(net, "bridged")
        assert not net.connect(r.SIBLING, 8000)
        assert dropped(net, "bridged") > sent


@pytest.mark.parametrize("address", [r.SIBLING, r.MACHINE])
def test_nothing_on_the_segment_by_way_of_the_server(
    net: Routed, rooter: Rooter, tmp_path: Path, address: str
) -> None:
    """It enters and leaves by the same interface as well, but is routed, past an isolating port."""
    net.run("1", f"ip route add {address}/32 via {r.SERVER}")
    assert net.connect(address, 8000, seconds=LONG)
    fence(net, tmp_path)
    net.run("s", "iptables -P FORWARD ACCEPT")
    sent = dropped(net, "through-netboot")
    assert not net.connect(address, 8000)
    assert dropped(net, "through-netboot") > sent
    net.run("1", f"ip route del {address}/32")


def test_nothing_on_the_segment_by_a_redirection(
    net: Routed, rooter: Rooter, tmp_path: Path
) -> None:
    """With br_netfilter it is the bridge that sends it there, and nothing is routed."""
    with inside(net.namespace("m")), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as there:
        there.bind(("", 53))
        there.settimeout(LONG)
        with opened(rooter, "inetsim", r.PC1, r.MACHINE, "53", "2042", "80:80"):
            net.ask(r.PUBLIC)
            assert there.recv(100)
            fence(net, tmp_path)
            net.run("s", "iptables -P FORWARD ACCEPT")
            there.settimeout(r.BRIEF)
            with contextlib.suppress(TimeoutError):
                there.recv(100)  # a promiscuous bridge sends it twice: by itself and by the router
            net.ask(r.PUBLIC)
            with pytest.raises(TimeoutError):
                there.recv(100)


def test_no_mark_stays_on_a_frame(net: Routed, rooter: Rooter, tmp_path: Path) -> None:
    """Whoever judges by marks later sees those of others alone."""
    fence(net, tmp_path)
    net.run("s", "nft add table bridge after")
    net.run("s", "nft add chain bridge after out { type filter hook postrouting priority 0 ; }")
    net.run("s", "nft add rule bridge after out meta mark != 0 counter")
    net.run("s", "nft add rule bridge after out counter")
    assert net.connect(r.MACHINE, seconds=LONG)
    marked, all_of_them = (
        int(line.split("packets ")[1].split()[0])
        for line in net.run("s", "nft list chain bridge after out").splitlines()
        if "counter" in line
    )
    assert all_of_them
    assert not marked
