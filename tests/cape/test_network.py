"""What is looked for on CAPE's server, on a real one in a network of its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cuckoo_zfsiscsi.cape.here import look
from cuckoo_zfsiscsi.cape.network import check_network
from cuckoo_zfsiscsi.cape.tree import CapeTree
from cuckoo_zfsiscsi.check import Finding
from cuckoo_zfsiscsi.doctor.system import System
from cuckoo_zfsiscsi.errors import ConfigError
from tests.cape import namespace, rooter
from tests.cape.namespace import Namespace
from tests.cape.tree import configure, make, network, view

GATEWAY = "the service's zfsiscsi.conf [netboot] gateway"


@pytest.fixture(autouse=True)
def server() -> Iterator[Namespace]:
    """CAPE's server, with an address in the hosts' network."""
    with namespace.enter() as made:
        made.add("br-lab", "203.0.113.2/24")
        made.add("eth0", "192.0.2.7/24")
        made.run("ip route add default via 192.0.2.1")
        yield made


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = make(tmp_path / "CAPEv2")
    configure(root, "cuckoo", f"[cuckoo]\nrooter = {tmp_path}/cuckoo-rooter\n")
    return root


def route(root: Path, name: str) -> None:
    configure(root, "routing", f"[routing]\nroute = {name}\ninternet = eth0\n")


def one_network(**changes: Any) -> dict[str, Any]:
    return view(networks=[network(113, "pc1", "pc2", **changes)])


def found(root: Path, seen: dict[str, Any], **system: Any) -> dict[str, Finding]:
    """Return what is wrong, by place."""
    given = replace(System(), **system)
    findings = check_network(CapeTree(root), seen, look(given), given)
    return {one.where: one for one in findings if one.level in ("error", "warning")}


def test_what_this_server_has() -> None:
    here = look(System())
    assert here.uplink == "eth0"
    assert here.has("203.0.113.2")
    assert here.has("127.0.0.1")
    assert here.address_in("203.0.113.0/24") == "203.0.113.2"
    assert here.interface_in("203.0.113.0/24") == "br-lab"
    assert here.address_in("198.51.100.0/24") == here.interface_in("198.51.100.0/24") == ""


def test_a_server_without_ip(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="there is no ip"):
        look(System(run=lambda argv: None))


def test_two_servers_and_no_route(root: Path) -> None:
    """The default: nothing is needed."""
    assert found(root, one_network()) == {}


def test_a_route_but_no_gateway(root: Path) -> None:
    configure(root, "routing", "[routing]\ninternet = eth0\n")
    one = found(root, one_network())[GATEWAY]
    assert one.level == "warning", "a task may ask for it"
    assert one.what == "is not set: pc1, pc2 can use no route but none"
    route(root, "internet")
    one = found(root, one_network())[GATEWAY]
    assert one.level == "error", "each task gets it"
    assert one.fix == (
        "gateway = 203.0.113.2 in [netboot] of the service's zfsiscsi.conf, "
        "then restart the service"
    )
    elsewhere = found(root, view(networks=[network(99, "pc1", "pc2")]))
    one = elsewhere["the service's zfsiscsi.conf [network:vlan99] gateway"]
    assert one.fix == "give this server an address in 203.0.99.0/24"


def test_another_gateway(root: Path) -> None:
    """Even with route = none: what is sent goes past CAPE."""
    one = found(root, one_network(gateways=["203.0.113.2", "203.0.113.254"]))[GATEWAY]
    assert one.level == "error"
    assert "203.0.113.254 of pc1, pc2 is not this server" in one.what
    assert "gateway = 203.0.113.2 in [netboot]" in one.fix


def test_rooter(root: Path, tmp_path: Path) -> None:
    socket = tmp_path / "cuckoo-rooter"
    place = f"CAPE's rooter {socket}"
    seen = one_network(gateways=["203.0.113.2"])
    one = found(root, seen)[place]
    assert one.level == "warning"
    assert one.what == "is not there: no run gets a route, and CAPE cuts none off"
    route(root, "internet")
    one = found(root, seen)[place]
    assert one.level == "error"
    assert one.what == "is not there: CAPE does not start"
    assert one.fix == "systemctl enable --now cape-rooter"
    with rooter.play(socket):
        assert place not in found(root, seen)


def test_rooter_that_this_user_may_not_ask(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError

    monkeypatch.setattr("cuckoo_zfsiscsi.cape.network.ask", refuse)
    route(root, "internet")
    one = found(root, one_network(gateways=["203.0.113.2"]))[
        f"CAPE's rooter {tmp_path}/cuckoo-rooter"
    ]
    assert (one.level, one.fix) == ("warning", "run it as root")


def test_forwarding(root: Path, server: Namespace) -> None:
    place, seen = "net.ipv4.ip_forward = 0", one_network(gateways=["203.0.113.2"])
    assert place not in found(root, seen), "no route leads out"
    route(root, "internet")
    assert place not in found(root, one_network(gateways=["203.0.113.254"])), "not this server's"
    one = found(root, seen)[place]
    assert one.level == "error"
    assert one.fix.startswith("sysctl -w net.ipv4.ip_forward=1, ")
    server.run(one.fix.split(",")[0])
    assert place not in found(root, seen)


@pytest.mark.parametrize(
    ("keys", "what", "fix"),
    [
        ({"portal": "203.0.113.2"}, "stops the host's disk", "systemctl enable --now zfsiscsi-"),
        ({"gateways": ["203.0.113.2"]}, "nothing keeps a sample from", "zfsiscsi.conf here, too"),
    ],
)
def test_firewall(root: Path, server: Namespace, keys: dict[str, Any], what: str, fix: str) -> None:
    place, seen = "firewall for 203.0.113.2", one_network(**keys)
    one = found(root, seen)[place]
    assert one.level == "error"
    assert "nftables has no table inet zfsiscsi and iptables has no rule of zfsiscsi" in one.what
    assert what in one.what
    assert fix in one.fix
    assert found(root, seen, is_root=False)[place].what == "can't be looked at by this user"
    server.protect()
    assert place not in found(root, seen)
    server.run("nft delete table inet zfsiscsi")
    assert "iptables" not in found(root, seen)[place].what
    server.run("nft add table inet zfsiscsi")
    server.run("iptables -F OUTPUT")
    assert "nftables" not in found(root, seen)[place].what


def test_a_rule_of_the_firewall_may_be_known_by_its_comment(root: Path, server: Namespace) -> None:
    server.run("nft add table inet zfsiscsi")
    server.run("iptables -I OUTPUT -p udp -m comment --comment zfsiscsi -j ACCEPT")
    assert found(root, one_network(portal="203.0.113.2")) == {}
