from __future__ import annotations

from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from cuckoo_zfsiscsi.cape.here import Here
from cuckoo_zfsiscsi.cape.resultserver import (
    ANY,
    check_result_server,
    choose_ip,
    choose_port,
    complete,
)
from cuckoo_zfsiscsi.cape.tree import CapeTree
from tests.cape.tree import configure, host, make, network, view

TWO = {"networks": [network(113, "pc1"), network(114, "pc2")]}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make(tmp_path / "CAPEv2")


def at(*addresses: str) -> Here:
    return Here({"br-lab": tuple(map(IPv4Address, addresses))})


def listen(root: Path, ip: str) -> None:
    configure(root, "cuckoo", f"[resultserver]\nip = {ip}\n")


def ips(seen: dict[str, Any]) -> list[str | None]:
    return [one.get("resultserver_ip") for one in seen["hosts"]]


def wrong(root: Path, seen: dict[str, Any], here: Here) -> list[tuple[str, str]]:
    found = check_result_server(CapeTree(root), seen, here)
    return [(one.what, one.fix) for one in found if one.level != "ok"]


def test_the_address_in_the_hosts_network(root: Path) -> None:
    tree, here = CapeTree(root), at("192.0.2.1", "203.0.113.2", "203.0.113.1")
    assert choose_ip(tree, view(), here) == "203.0.113.2"
    assert ips(complete(tree, view(), here)) == [None, None], "cuckoo.conf says it"
    listen(root, "203.0.113.1")
    assert choose_ip(tree, view(), here) == "203.0.113.1", "what is right stays"


def test_the_gateway_goes_first(root: Path) -> None:
    """The firewall lets a host reach its gateway, if nothing else is told."""
    tree, here = CapeTree(root), at("203.0.113.2", "203.0.113.1")
    seen = view(networks=[network(113, "pc1", "pc2", gateways=["203.0.113.1"])])
    assert choose_ip(tree, seen, here) == "203.0.113.1"
    listen(root, "203.0.113.2")
    assert choose_ip(tree, seen, here) == "203.0.113.1"


def test_several_networks(root: Path) -> None:
    """CAPE listens at one address or at all of them; who is told another finds nobody there."""
    tree, here = CapeTree(root), at("203.0.113.2", "203.0.114.2")
    assert choose_ip(tree, view(**TWO), here) == ANY
    assert ips(complete(tree, view(**TWO), here)) == ["203.0.113.2", "203.0.114.2"]
    listen(root, ANY)
    assert choose_ip(tree, view(**TWO), here) == ANY
    assert wrong(root, complete(tree, view(**TWO), here), here) == []


def test_all_addresses_for_one_network(root: Path) -> None:
    listen(root, ANY)
    tree, here = CapeTree(root), at("203.0.113.2")
    assert choose_ip(tree, view(), here) == ANY
    assert ips(complete(tree, view(), here)) == ["203.0.113.2", "203.0.113.2"]


def test_what_a_section_says(root: Path) -> None:
    tree, here = CapeTree(root), at("203.0.113.2", "203.0.113.3")
    seen = view(host(1, resultserver_ip="203.0.113.3"), host(2, resultserver_ip="203.0.113.3"))
    assert choose_ip(tree, seen, here) == "203.0.113.3"
    listen(root, "203.0.113.3")
    assert wrong(root, seen, here) == []
    found = wrong(root, view(host(1, resultserver_ip="198.51.100.1"), host(2)), here)
    assert found == [
        (
            "pc1 is told 198.51.100.1, which is not this server's",
            "resultserver_ip in [pc1] of the service's zfsiscsi.conf",
        )
    ]


def test_no_address_there(root: Path) -> None:
    tree, here = CapeTree(root), at("192.0.2.1", "203.0.113.2")
    seen = view(**TWO)
    assert choose_ip(tree, seen, here) == "203.0.113.2"
    listen(root, "203.0.113.2")
    ((what, fix),) = wrong(root, seen, here)
    assert what == "pc2 can't reach it: this server has no address in 203.0.114.0/24"
    assert "give CAPE's server one" in fix
    assert choose_ip(tree, view(), at("192.0.2.1")) == "203.0.113.2", "nobody knows better"


def test_beside_other_machineries(root: Path) -> None:
    """Their machines may be told of it where it is: only people know."""
    configure(root, "multi", "[multi]\nmachinery = kvm,zfsiscsi\n")
    configure(root, "cuckoo", "[cuckoo]\nmachinery = multi\n[resultserver]\nip = 192.168.122.1\n")
    tree, here = CapeTree(root), at("192.168.122.1", "203.0.113.2")
    assert choose_ip(tree, view(), here) == "192.168.122.1"
    seen = complete(tree, view(), here)
    assert ips(seen) == ["203.0.113.2", "203.0.113.2"]
    what, fix = wrong(root, seen, here)[0]
    assert what == "does not listen at 203.0.113.2, which pc1 is told"
    assert fix.startswith("ip = 0.0.0.0, and resultserver_ip = 192.168.122.1")


def test_the_port(root: Path) -> None:
    tree, here = CapeTree(root), at("203.0.113.2")
    assert choose_port(tree, view()) == "2042"
    seen = view(host(1, resultserver_port="2100"), host(2, resultserver_port="2100"))
    assert choose_port(tree, seen) == "2100"
    found = wrong(root, view(host(1), host(2, resultserver_port="2100")), here)
    assert found == [
        ("but pc2 is told 2100", "resultserver_port = 2042 in [pc2] of the service's zfsiscsi.conf")
    ]


def test_a_port_for_each_machine(root: Path) -> None:
    text = "[resultserver]\nip = 203.0.113.2\nmultiworker = yes\nbase_port = 2042\n"
    configure(root, "cuckoo", text)
    assert wrong(root, view(), at("203.0.113.2")) == [
        (
            "pc2 is told port 2043, of which the service knows nothing",
            "resultserver_port = 2043 in [pc2] of the service's zfsiscsi.conf",
        )
    ]
    seen = view(host(1), host(2, resultserver_port="2043"))
    assert choose_port(CapeTree(root), seen) == "2042"
    assert wrong(root, seen, at("203.0.113.2")) == []
