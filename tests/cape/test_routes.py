from __future__ import annotations

from ipaddress import IPv4Address
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.cape.here import Here
from cuckoo_zfsiscsi.cape.routes import check_routes, needs_rooter, routes
from cuckoo_zfsiscsi.cape.tree import CapeTree
from tests.cape.tree import configure, make

HERE = Here({"eth0": (IPv4Address("192.0.2.7"),), "br-lab": (), "tun0": ()}, "eth0")
ON = "enabled = yes\n"


def tree(at: Path, text: str) -> CapeTree:
    root = make(at / "CAPEv2")
    configure(root, "routing", text)
    return CapeTree(root)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", []),
        ("[routing]\ninternet = eth0\n", ["internet"]),
        (f"[inetsim]\n{ON}[tor]\n{ON}", ["inetsim", "tor"]),
        (f"[vpn]\n{ON}", ["vpn0"]),
        (f"[vpn]\n{ON}[vpn0]\nname = sweden\n", ["sweden"]),
        (f"[socks5]\n{ON}", ["ch_socks"]),
        (f"[nexthop]\n{ON}", ["gw1", "nexthop", "roundrobin", "random"]),
    ],
)
def test_what_a_task_may_ask_for(tmp_path: Path, text: str, names: list[str]) -> None:
    assert [route.name for route in routes(tree(tmp_path, text))] == names


@pytest.mark.parametrize(
    ("text", "level", "what", "fix"),
    [
        ("route = none", "info", "a sample reaches no C2, unless its task asks", "docs/routes.rst"),
        ("route = none\ninternet = eth0", "info", "asks for a route: internet", ""),
        ("route = internet\ninternet = eth0", "ok", "goes out by eth0", ""),
        ("route = internet", "error", "does not cut them off", "internet = eth0 in [routing]"),
        ("route = inetsim", "error", "is not configured", "server = ADDRESS and interface"),
        ("route = tor", "error", "is not configured", "interface = eth0 in [tor]"),
        ("route = drop", "error", "CAPE does not start: it has no such", "route = none"),
        ("route = vpn0", "error", "CAPE does not start: it has no such", "route = none"),
        (f"route = vpn0\n[vpn]\n{ON}", "ok", "goes out by tun0", ""),
        (f"route = vpn7\n[vpn]\n{ON}", "error", "CAPE does not start", "or one of: vpn0"),
        (f"route = inetsim\n[inetsim]\n{ON}interface=br-lab", "ok", "goes out by br-lab", ""),
    ],
)
def test_the_default_route(tmp_path: Path, text: str, level: str, what: str, fix: str) -> None:
    (found,) = check_routes(tree(tmp_path, f"[routing]\n{text}\n"), HERE)
    assert found.where.startswith("routing.conf [routing] route = ")
    assert found.level == level
    assert what in found.what
    assert fix in found.fix


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        ("[routing]\ninternet = eth9\n", "[routing] internet = eth9", "CAPE does not start"),
        (f"[tor]\n{ON}", "[tor] interface = virbr1", "CAPE does not start"),
        (f"[inetsim]\n{ON}", "[inetsim] interface = virbr1", "CAPE does not start"),
        (f"[vpn]\n{ON}[vpn0]\ninterface = tun7\n", "[vpn0] interface = tun7", "route vpn0 is none"),
        (f"[nexthop]\n{ON}", "[gw1] interface = ens6", "route gw1 is none"),
        (
            f"[inetsim]\n{ON}interface = br-lab\nserver = inetsim.example\n",
            "[inetsim] server = inetsim.example",
            "is no IPv4 address",
        ),
    ],
)
def test_what_a_route_lacks(tmp_path: Path, text: str, where: str, what: str) -> None:
    """It is told though no task uses the route: CAPE looks for it at its start."""
    found, default = check_routes(tree(tmp_path, text), HERE)
    assert found.level == "error"
    assert found.where == f"routing.conf {where}"
    assert what in found.what
    assert found.fix
    assert default.level == "info"


@pytest.mark.parametrize(
    ("text", "needed"),
    [
        ("", False),
        ("[routing]\ninternet = eth0\n", False),
        ("[routing]\nroute = internet\n", True),
        (f"[tor]\n{ON}", True),
        (f"[nexthop]\n{ON}", True),
    ],
)
def test_who_needs_the_rooter_to_start(tmp_path: Path, text: str, needed: bool) -> None:
    assert needs_rooter(tree(tmp_path, text)) == needed
